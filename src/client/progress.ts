/**
 * The progress line: one line on a terminal's standard error, drawn over and
 * over, wiped before anything else is printed and at the end. Called by the
 * output and by the commands that take long. Where standard error is no
 * terminal, or with -q or -j, there is none. The clock is passed in.
 */
import { formatBytes, formatDuration } from './format.ts';

/** At most so often is the line drawn. */
export const DRAW_INTERVAL_MS = 100;
/** The rate is that of the last seconds, not that of the whole. */
const RATE_WINDOW_MS = 10_000;
/** Samples of the window. */
const SAMPLES_MAX = 64;
/** No estimate of what is left before so much time has passed. */
const ESTIMATE_AFTER_MS = 1000;
/** What a file costs beside its contents, in bytes of contents. */
const FILE_COST_BYTES = 32 << 10;
const WIDTH_DEFAULT = 80;
/** Back to the first column, and wipe to the end of the line. */
const WIPE = '\r\x1b[K';

/** How far a job is. Bytes are of file contents. */
export interface ProgressState {
  readonly operation: string;
  readonly files: number;
  readonly bytes: number;
  /** What it is expected to come to, where that is known. */
  readonly filesExpected?: number | undefined;
  readonly bytesExpected?: number | undefined;
  readonly problems?: number | undefined;
}

/** Where the line is drawn. */
export interface Terminal {
  readonly columns: number | undefined;
  write(text: string): void;
}

/** What share is done, 0 to 1, or undefined where the whole is not known. */
function shareOf({ bytes, files, bytesExpected, filesExpected }: ProgressState): number | undefined {
  // small files cost more than their bytes
  const expected = (bytesExpected ?? 0) + (filesExpected ?? 0) * FILE_COST_BYTES;
  if (expected <= 0) return undefined;
  const done =
    (bytesExpected === undefined ? 0 : bytes) + (filesExpected === undefined ? 0 : files * FILE_COST_BYTES);
  return Math.min(1, done / expected);
}

/**
 * The line's text: `push  42%  1203 files  512 MB of 1.2 GB  85 MB/s  8 s left`.
 * @param rate bytes per second lately, 0 where not yet known
 * @param columns what it has to fit into; parts that do not fit are left out from the right
 */
export function formatProgress(
  state: ProgressState,
  rate: number,
  elapsedMs: number,
  columns = WIDTH_DEFAULT,
): string {
  const parts = [state.operation];
  const share = shareOf(state);
  if (share !== undefined) parts.push(`${Math.floor(share * 100)}%`);
  const of = state.bytesExpected === undefined ? '' : ` of ${formatBytes(state.bytesExpected)}`;
  parts.push(formatBytes(state.bytes) + of);
  if (rate > 0) parts.push(`${formatBytes(rate)}/s`);
  parts.push(timePart(share, elapsedMs));
  parts.push(state.files === 1 ? '1 file' : `${state.files} files`);
  if ((state.problems ?? 0) > 0) parts.push(`${state.problems} not read`);
  let line = parts[0] ?? '';
  for (const part of parts.slice(1)) {
    // the last column stays free: writing into it makes some terminals wrap
    if (line.length + 2 + part.length >= columns) break;
    line += `  ${part}`;
  }
  return line.slice(0, Math.max(0, columns - 1));
}

function timePart(share: number | undefined, elapsedMs: number): string {
  if (share === undefined || share <= 0 || elapsedMs < ESTIMATE_AFTER_MS) return formatDuration(elapsedMs);
  return `${formatDuration((elapsedMs * (1 - share)) / share)} left`;
}

/** Bytes per second over the last RATE_WINDOW_MS. */
export class Rate {
  readonly #times: number[] = [];
  readonly #bytes: number[] = [];

  add(nowMs: number, bytes: number): void {
    this.#times.push(nowMs);
    this.#bytes.push(bytes);
    while (this.#times.length > SAMPLES_MAX || nowMs - (this.#times[0] ?? nowMs) > RATE_WINDOW_MS) {
      this.#times.shift();
      this.#bytes.shift();
    }
  }

  /** 0 where fewer than two samples are known, or no time has passed. */
  get bytesPerSecond(): number {
    const elapsedMs = (this.#times.at(-1) ?? 0) - (this.#times[0] ?? 0);
    const bytes = (this.#bytes.at(-1) ?? 0) - (this.#bytes[0] ?? 0);
    return elapsedMs > 0 && bytes > 0 ? (bytes * 1000) / elapsedMs : 0;
  }
}

/** The line itself; without a terminal every call does nothing. */
export class ProgressLine {
  readonly #terminal: Terminal | undefined;
  readonly #now: () => number;
  #rate = new Rate();
  #startMs: number | undefined;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #visible = false;

  /** @param now a monotonic clock, milliseconds */
  constructor(terminal: Terminal | undefined, now: () => number) {
    this.#terminal = terminal;
    this.#now = now;
  }

  /** Whether drawing has any effect, so that callers may save the counting. */
  get active(): boolean {
    return this.#terminal !== undefined;
  }

  /** Draws the state, unless the last drawing is less than DRAW_INTERVAL_MS ago. */
  show(state: ProgressState): void {
    if (this.#terminal === undefined) return;
    const nowMs = this.#now();
    if (nowMs - this.#drawnMs < DRAW_INTERVAL_MS) return;
    this.#startMs ??= nowMs;
    this.#drawnMs = nowMs;
    this.#rate.add(nowMs, state.bytes);
    const elapsedMs = nowMs - this.#startMs;
    // a terminal that was never told its size has 0 columns
    const columns = this.#terminal.columns || WIDTH_DEFAULT;
    this.#terminal.write(WIPE + formatProgress(state, this.#rate.bytesPerSecond, elapsedMs, columns));
    this.#visible = true;
  }

  /** Wipes the line, so that something else can be printed; the next `show` draws it again. */
  clear(): void {
    if (!this.#visible) return;
    this.#terminal?.write(WIPE);
    this.#visible = false;
    this.#drawnMs = Number.NEGATIVE_INFINITY;
  }

  /** Wipes the line and forgets the job, so that another can begin. */
  end(): void {
    this.clear();
    this.#rate = new Rate();
    this.#startMs = undefined;
  }
}
