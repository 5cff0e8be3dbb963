import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import express, { type Express } from 'express';

const initializer =
  "window.ui = SwaggerUIBundle({ url: '/openapi.json', dom_id: '#swagger-ui', " +
  'presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset], ' +
  "layout: 'BaseLayout' });";

/** Serves Swagger UI for `/openapi.json` under `/docs`, from the package's own files. */
export function mountSwaggerUi(app: Express): void {
  const folder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  const page = readFileSync(`${folder}/index.html`, 'utf8')
    .replaceAll('./', '/docs/')
    .replaceAll('href="index.css"', 'href="/docs/index.css"');
  app.get('/docs', (_request, response) => {
    response.type('html').send(page);
  });
  app.get('/docs/swagger-initializer.js', (_request, response) => {
    response.type('js').send(initializer);
  });
  app.use('/docs', express.static(folder, { index: false }));
}
