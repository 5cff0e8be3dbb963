import type { Actions } from './actions.ts';
import { ACCOUNT_ID } from './state.ts';

export const stsActions: Actions = {
  GetCallerIdentity({ requester }) {
    const accessKeyId = requester.accessKeyId ?? 'unknown';
    return {
      Arn: `arn:aws:iam::${ACCOUNT_ID}:user/${accessKeyId}`,
      UserId: accessKeyId,
      Account: ACCOUNT_ID,
    };
  },
};
