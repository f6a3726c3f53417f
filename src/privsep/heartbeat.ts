/**
 * Whether a child still turns its event loop: it is asked, and has to answer in
 * time. Called by start.ts, one for each child.
 *
 * Invariant: a child is called stalled only after this process has looked, since
 * the time was up, at everything that had arrived: where the parent itself was
 * suspended, or the machine asleep, the answers are read first.
 */
import { Breach } from '../ipc/message.ts';

/** A child is asked again this long after its answer, as a part of the time that it has. */
const PAUSE_PART = 3;

export interface HeartbeatOptions {
  /** for an answer */
  readonly timeoutMs: number;
  /** asks; what it throws means that the child does not read */
  readonly ask: () => void;
  /** called once */
  readonly stalled: () => void;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #asked = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /** Asks for the first time. */
  start(): void {
    if (this.#stopped) return;
    try {
      this.#options.ask();
      this.#asked = true;
    } catch {
      // a full queue or a closed channel: no answer will come, and that is judged below
    }
    this.#timer = setTimeout(() => this.#late(), this.#options.timeoutMs);
  }

  /** The child has answered; throws where it was not asked. */
  beat(): void {
    if (!this.#asked) throw new Breach('refuse', 'sign of life', { cause: 'it was not asked for' });
    this.#asked = false;
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.start(), this.#options.timeoutMs / PAUSE_PART);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #late(): void {
    const asked = this.#timer;
    // after the next poll, which reads what is there
    setImmediate(() => {
      if (this.#stopped || this.#timer !== asked) return;
      this.stop();
      this.#options.stalled();
    });
  }
}
