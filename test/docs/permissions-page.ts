import { applicationRoles, privileges } from '../../shared/db/grants.ts';
import { awsPolicy, kubernetesRole } from './cloud-permissions.ts';
import { code, generatedNotice, plain, table } from './markdown.ts';
import { closingAt, literalAt, openingBefore, readSources } from './sources.ts';

export function permissionsPage(): string {
  return `# Permissions

${generatedNotice}

## AWS

All that workers call. AWS cannot narrow the Describe calls; the writes are narrowed to groups tagged
\`autoscaler=managed\`.
\`ec2:DescribeLaunchTemplateVersions\` is for prices of groups at 0 and may be left out. Without
\`autoscaling:DescribeInstanceRefreshes\` nothing is scaled in. Leave \`OnlyForActuationFloor\` out unless a resource has
actuation \`floor\`: then whatever goes wrong stays within the group's own bounds.

\`\`\`json
${JSON.stringify(awsPolicy, null, 2)}
\`\`\`

## Kubernetes

All that workers call; one Role and RoleBinding per namespace. \`resourceNames\` can narrow \`get\`, \`update\` and
\`patch\` further. Without the right to list autoscalers or ScaledObjects nothing is scaled in.

\`\`\`yaml
${kubernetesRole}\`\`\`

## API

The scope that each route needs. Scopes are not cumulative.

${routes()}

## PostgreSQL

\`npm run migrate\` makes these roles, if it may, and sets their privileges to exactly these. "All but" names columns.

${databaseRoles()}
`;
}

type Route = [method: string, path: string, scope: string, summary: string];

function routes(): string {
  const found = readSources('api').flatMap(({ file, text }) =>
    [...text.matchAll(/\boperationId: '/g)].map(({ index }) => {
      const open = openingBefore(text, index, '{');
      const route = text.slice(open, closingAt(text, open));
      const string = (field: string): string => {
        const at = new RegExp(`\\b${field}:\\s*(?=['"\`])`).exec(route);
        const value = at === null ? null : literalAt(route, at.index + at[0].length);
        if (value === null) throw new Error(`${file}: a route has no literal ${field}`);
        return value;
      };
      const [method, path, scope, summary] = ['method', 'path', 'scope', 'summary'].map(string) as Route;
      return { method: method.toUpperCase(), path, scope, summary };
    }),
  );
  found.sort((one, other) =>
    `${one.path} ${one.method}`.localeCompare(`${other.path} ${other.method}`, 'en'),
  );
  return table(
    ['route', 'scope', 'does'],
    found.map(({ method, path, scope, summary }) => [code(`${method} ${path}`), scope, plain(summary)]),
  );
}

function databaseRoles(): string {
  const rows = Object.entries(privileges).map(([name, rights]) => [
    code(name),
    ...applicationRoles.map((role) =>
      Object.entries(rights[role] ?? {})
        .map(([verb, right]) =>
          right === true ? verb : `${verb} (all but ${right.except.map(code).join(', ')})`,
        )
        .join(', '),
    ),
  ]);
  return table(['table', ...applicationRoles.map(code)], rows);
}
