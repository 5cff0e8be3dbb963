/** Lets every AWS client of this process that is made from now on call a simulator. */
export function pointAwsSdkTo(endpoint: string): void {
  process.env.AWS_ENDPOINT_URL_AUTO_SCALING = endpoint;
  process.env.AWS_ENDPOINT_URL_EC2 = endpoint;
  process.env.AWS_ACCESS_KEY_ID = 'AKIATEST';
  process.env.AWS_SECRET_ACCESS_KEY = 'secret';
}
