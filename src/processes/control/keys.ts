/**
 * `plakarctl key`, as far as control has to do with it: whether the client may,
 * and the way to the parent. Used by control.ts. Invariant: a credential passes
 * as a descriptor that is not looked into, and is closed whatever happens.
 */
import { closeSync } from 'node:fs';
import type { Channel } from '../../ipc/channel.ts';
import type { MessageType, Received } from '../../ipc/message.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import {
  type CHANGE_KEYS,
  type KEYS,
  KEYS_CHANGED,
  KEYS_LISTED,
  PARENT_CHANGE_KEYS,
  PARENT_KEYS,
} from '../../messages/keys.ts';
import type { Job } from './jobs.ts';

/** What control lends. */
export interface KeyTools {
  readonly parent: Channel;
  /** begins the client's job on the repository, if it is permitted to */
  readonly begin: (repository: string | undefined) => Job;
  /** does the work while the repository is up for the job, and ends it */
  readonly work: <T>(job: Job, work: () => Promise<T>) => Promise<T>;
  readonly reply: <T>(message: Received<unknown>, type: MessageType<T>, payload: T) => void;
}

export async function listKeys(
  message: Received<PayloadOf<typeof KEYS.shape>>,
  { parent, begin, work, reply }: KeyTools,
): Promise<void> {
  const job = begin(message.payload.repository);
  const asked = { job: job.number, repository: job.repository };
  const { payload } = await work(job, () => parent.query(PARENT_KEYS, asked, KEYS_LISTED));
  reply(message, KEYS_LISTED, payload);
}

export async function changeKeys(
  message: Received<PayloadOf<typeof CHANGE_KEYS.shape>>,
  { parent, begin, work, reply }: KeyTools,
): Promise<void> {
  const { fds } = message;
  try {
    const { repository, ...change } = message.payload;
    const job = begin(repository);
    const asked = { ...change, job: job.number, repository: job.repository };
    const { payload } = await work(job, () => parent.query(PARENT_CHANGE_KEYS, asked, KEYS_CHANGED, { fds }));
    reply(message, KEYS_CHANGED, payload);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
