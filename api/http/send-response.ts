import type { Response } from 'express';
import type { RouteResponse } from './route.ts';

/**
 * Writes what a handler returned: a string as it is, anything else as JSON, no body for 204 and streamed responses.
 */
export function sendResponse(response: Response, { status, headers = {}, body }: RouteResponse): void {
  response.status(status);
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  if (body === undefined) response.end();
  else if (typeof body === 'string') response.end(body);
  else {
    response.setHeader('Content-Type', 'application/json; charset=utf-8');
    response.end(JSON.stringify(body));
  }
}
