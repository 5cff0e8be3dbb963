import type { AwsError } from './aws-error.ts';

export type XmlValue =
  | string
  | number
  | boolean
  | Date
  | undefined
  | readonly XmlValue[]
  | { readonly [name: string]: XmlValue };

export const xmlNamespaces = {
  autoscaling: 'http://autoscaling.amazonaws.com/doc/2011-01-01/',
  ec2: 'http://ec2.amazonaws.com/doc/2016-11-15/',
  sts: 'https://sts.amazonaws.com/doc/2011-06-15/',
} as const;
export type Service = keyof typeof xmlNamespaces;

/** The 200 body. `result` undefined means the action has no Result element. */
export function successBody(service: Service, action: string, requestId: string, result: XmlValue): string {
  const namespace = xmlNamespaces[service];
  if (service === 'ec2') {
    const content = element('requestId', requestId, 'item') + contentOf(result, 'item');
    return `${XML_HEAD}<${action}Response xmlns="${namespace}">${content}</${action}Response>`;
  }
  const resultXml = result === undefined ? '' : element(`${action}Result`, result, 'member');
  const metadata = element('ResponseMetadata', { RequestId: requestId }, 'member');
  return `${XML_HEAD}<${action}Response xmlns="${namespace}">${resultXml}${metadata}</${action}Response>`;
}

export function errorBody(service: Service, requestId: string, error: AwsError): string {
  const named = { Code: error.code, Message: error.message };
  if (service === 'ec2') {
    const content = element('Errors', { Error: named }, 'item') + element('RequestID', requestId, 'item');
    return `${XML_HEAD}<Response>${content}</Response>`;
  }
  const type = error.status >= 500 ? 'Receiver' : 'Sender';
  const content =
    element('Error', { Type: type, ...named }, 'member') + element('RequestId', requestId, 'member');
  return `${XML_HEAD}<ErrorResponse xmlns="${xmlNamespaces[service]}">${content}</ErrorResponse>`;
}

const XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n';

function element(name: string, value: XmlValue, itemName: string): string {
  return value === undefined ? '' : `<${name}>${contentOf(value, itemName)}</${name}>`;
}

function contentOf(value: XmlValue, itemName: string): string {
  if (value === undefined) return '';
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map((item: XmlValue) => element(itemName, item, itemName)).join('');
  if (typeof value === 'object') {
    return Object.entries(value)
      .map(([name, child]) => element(name, child as XmlValue, itemName))
      .join('');
  }
  return escapeXml(String(value));
}

/** Control characters are not representable in XML 1.0 at all, so they become U+FFFD. */
function escapeXml(text: string): string {
  return (
    text
      .replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
      .replace(/\r/g, '&#13;')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly those are meant
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
  );
}
