FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: containers use their own PostgreSQL and Redis, never the embedded ones.
RUN npm ci --no-audit --no-fund --ignore-scripts
COPY . .
RUN npx tsc -b && npm prune --omit=dev --omit=optional --ignore-scripts

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/shared/db/migrations ./shared/db/migrations
COPY --from=build /app/shared/cost/prices.json ./shared/cost/prices.json
USER node
EXPOSE 8082
CMD ["node", "dist/api/main.js"]
