/**
 * A push of what this process walks itself: the daemon hands out a scan channel
 * to the repository's chunker, and the walk of src/snapshot serves it. Called
 * by push, which loads it only for paths.
 */
import { closeSync } from 'node:fs';
import { collectInTime } from '../collect.ts';
import { Failure } from '../error.ts';
import { Channel } from '../ipc/channel.ts';
import { PUSH_OPENED, PUSH_PATH } from '../messages/client.ts';
import { serveScans } from '../snapshot/scan.ts';
import type { Connection } from './connection.ts';
import type { Summary } from './summary.ts';

export interface PathPush {
  readonly repository: string | undefined;
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly tags: readonly string[];
  /** As in plakard.conf(5). */
  readonly excludes: readonly string[];
  readonly oneFilesystem: boolean;
  readonly signal: AbortSignal;
}

/** Resolves when the snapshot is durable; rejects when the push failed, or was interrupted. */
export async function pushPath(connection: Connection, push: PathPush): Promise<Summary> {
  collectInTime();
  const { repository, path, tags, signal } = push;
  const request = { repository, paths: [Buffer.from(path)], tags: [...tags] };
  const { fds } = await connection.request(PUSH_PATH, request, PUSH_OPENED);
  const [stream, descriptors] = fds;
  if (fds.length !== 2 || stream === undefined || descriptors === undefined) {
    for (const fd of fds) closeSync(fd);
    throw new Failure('open walk', '', { cause: `${fds.length} descriptors came` });
  }
  const channel = new Channel({ stream, descriptors }, { name: 'repository' });
  const over = Promise.withResolvers<Summary>();
  serveScans(channel, {
    paths: [path],
    root: '/',
    excludes: push.excludes,
    oneFilesystem: push.oneFilesystem,
    onDone: over.resolve,
    onFailed: over.reject,
  });
  const interrupt = (): void => over.reject(signal.reason);
  signal.addEventListener('abort', interrupt);
  const lost = () => over.reject(new Failure('walk', path, { cause: 'the daemon ended the push' }));
  channel.dispatch().then(lost, over.reject);
  try {
    return await over.promise;
  } finally {
    signal.removeEventListener('abort', interrupt);
    channel.close();
  }
}
