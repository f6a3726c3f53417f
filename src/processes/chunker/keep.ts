/** What `plakarctl keep` comes to: the policy over the snapshots that it is about. Pure. */
import type { PayloadOf } from '../../ipc/shape.ts';
import type { KEPT } from '../../messages/client.ts';
import type { KEEP_SNAPSHOTS } from '../../messages/jobs.ts';
import { applyPolicy, type KeepPolicy } from '../../repository/keep.ts';
import type { Snapshot } from './catalog.ts';

type Asked = PayloadOf<typeof KEEP_SNAPSHOTS.shape>;
type Judged = PayloadOf<typeof KEPT.shape>['snapshots'];

const REASONS_MAX = 64;
const REASON_MAX_CHARS = 160;

/** Every snapshot that `asked` is about, with the rules that keep it. */
export function judge(snapshots: readonly Snapshot[], asked: Asked, nowMs: number): Judged {
  const { sources, source, tags, policy } = asked;
  const candidates = snapshots
    .filter(({ header }) => sources === undefined || sources.includes(header.source))
    .filter(({ header }) => source === undefined || header.source === source)
    .filter(({ header }) => tags.every((tag) => header.tags.includes(tag)))
    .map(({ name, header }) => ({ name, ...pick(header) }));
  return applyPolicy(candidates, policy as KeepPolicy, nowMs).map(({ snapshot, reasons }) => ({
    snapshot: snapshot.name,
    time: snapshot.time,
    reasons: reasons.slice(0, REASONS_MAX).map((reason) => reason.slice(0, REASON_MAX_CHARS)),
  }));
}

function pick({ time, host, source, paths, tags }: Snapshot['header']) {
  return { time, host, source, paths, tags };
}
