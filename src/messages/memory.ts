/**
 * What the parent remembers of a repository beyond the life of its processes,
 * between it and the chunker: where the chains of the log ended (log.ts of the
 * repository), and whose turn it is in a sampled check. The parent has to do
 * it, as nobody else may write a file outside of the repository, and what is in
 * the repository goes back with it when an older state is put there.
 */
import { message } from '../ipc/message.ts';
import { boolean, bytes, integer, list, record, text } from '../ipc/shape.ts';

/** Chains, and lengths of rotations, that are remembered of a repository. */
export const HEADS_MAX = 1024;
export const TURNS_MAX = 16;
/** The longest rotation: of a thousandth each. */
export const RUNS_MAX = 1000;

const memory = {
  /** chain: 32 digits; digest: of the entry `sequence` */
  heads: list(record({ chain: text(32), sequence: integer(), digest: bytes(32, 32) }), HEADS_MAX),
  /** of sampled checks that read everything in `runs` runs, which is next, from 0 */
  turns: list(record({ runs: integer(1, RUNS_MAX), next: integer(0, RUNS_MAX) }), TURNS_MAX),
};

/** chunker → parent: remember this of the repository; with `accept`, also that it is the right one here. Answered by PARENT_DONE. */
export const REMEMBER = message(260, 'remember', record({ ...memory, accept: boolean }), {
  maxBytes: 256 << 10,
});
/** parent → chunker: what is remembered, and what that says is wrong. Answered by PARENT_DONE. */
export const MEMORY = message(
  261,
  'memory',
  record({ ...memory, found: list(record({ object: text(256), text: text(1024) }), 4) }),
  { maxBytes: 256 << 10 },
);
