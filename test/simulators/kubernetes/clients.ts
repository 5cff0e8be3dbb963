import {
  ApiException,
  AppsV1Api,
  AuthorizationV1Api,
  AutoscalingV2Api,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  Watch,
} from '@kubernetes/client-node';

/** The real client on a simulator. */
export function kubernetesClients(kubeconfig: string) {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  return {
    config,
    apps: config.makeApiClient(AppsV1Api),
    core: config.makeApiClient(CoreV1Api),
    autoscaling: config.makeApiClient(AutoscalingV2Api),
    authorization: config.makeApiClient(AuthorizationV1Api),
    custom: config.makeApiClient(CustomObjectsApi),
    watch: new Watch(config),
  };
}

export type KubernetesClients = ReturnType<typeof kubernetesClients>;

export interface Refusal {
  readonly code: number;
  readonly reason: string | undefined;
  readonly message: string | undefined;
  readonly causes: readonly { readonly reason: string; readonly message: string; readonly field: string }[];
  readonly contentType: string | undefined;
  /** As it came, when it is no Status object. */
  readonly text: string;
}

/** What the server refused a call with: client-node hands the body over as text for most codes. */
export async function refusalOf(call: Promise<unknown>): Promise<Refusal> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof ApiException)) throw error;
    const text = typeof error.body === 'string' ? error.body : JSON.stringify(error.body ?? '');
    const status = parseStatus(text);
    return {
      code: error.code,
      reason: status.reason,
      message: status.message,
      causes: status.details?.causes ?? [],
      contentType: error.headers['content-type'],
      text,
    };
  }
  throw new Error('the call was answered, not refused');
}

interface StatusBody {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: Refusal['causes'] };
}

function parseStatus(text: string): StatusBody {
  try {
    return JSON.parse(text) as StatusBody;
  } catch {
    return {};
  }
}
