/**
 * Everything plakarctl prints, as one stream of events: a command emits events
 * of declared types, and here they become lines of text or, with -j, one JSON
 * object per line. Results go to standard output; problems and errors go to
 * standard error as text, and with -j to standard output as objects as well.
 * Owns the order of what is printed, and that the progress line is never mixed
 * into it.
 */
import type { Failure } from '../error.ts';
import type { ProgressLine } from './progress.ts';
import { Sink } from './sink.ts';

const STDERR = 2;

/** A kind of event: its name (the JSON field `event`), and both of its forms. */
export interface EventType<T> {
  readonly name: string;
  /** The fields of the JSON object. */
  readonly json: (event: T) => object;
  /** The line of text without its newline, or undefined where the event has none. */
  readonly text: (event: T) => string | undefined;
  /**
   * Writes the line of text as bytes to `to` at `at`, where it is simple and there is room: where it ends, or -1.
   * For events of which there are very many.
   */
  readonly write?: (event: T, to: Buffer, at: number) => number;
  /** Printed to standard error in text: what is about the result, not the result. */
  readonly aside?: true;
}

export interface OutputOptions {
  readonly json: boolean;
  /** No notes; results, problems and errors are printed all the same. */
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly stdout: Sink;
  /** Undefined where standard error is the same terminal or file as standard output: what is printed keeps its order. */
  readonly stderr: Sink | undefined;
  readonly progress: ProgressLine;
}

export class Output {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly progress: ProgressLine;
  readonly #stdout: Sink;
  #stderr: Sink;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.quiet = options.quiet;
    this.verbose = options.verbose;
    this.progress = options.progress;
    this.#stdout = options.stdout;
    this.#stderr = options.stderr ?? options.stdout;
  }

  /** Prints one event. What is printed is buffered: a producer of many awaits `drained` now and then. */
  emit<T>(type: EventType<T>, event: T): void {
    this.progress.clear();
    if (this.json) this.#stdout.write(`${JSON.stringify({ event: type.name, ...type.json(event) })}\n`);
    if (this.json && type.aside === undefined) return;
    if (type.write !== undefined && this.#stdout.put(type.write, event)) return;
    const text = type.text(event);
    if (text === undefined) return;
    if (type.aside === undefined) this.#stdout.write(`${text}\n`);
    else this.#stderr.write(`plakarctl: ${text}\n`);
  }

  /** Lines of text that are ready, for standard output; the caller's no more. */
  lines(text: Buffer): void {
    this.progress.clear();
    this.#stdout.write(text);
  }

  /** Draws on standard error: the progress line. */
  draw(text: string): void {
    this.#stderr.write(text);
  }

  /** A line for people alone, on standard error: not with -q, not with -j. */
  note(text: string): void {
    if (this.quiet || this.json) return;
    this.progress.clear();
    this.#stderr.write(`plakarctl: ${text}\n`);
  }

  /** Raw bytes to standard output (`cat`). Resolves when they are written, and are the caller's again. */
  async raw(bytes: Buffer): Promise<void> {
    this.progress.clear();
    this.#stdout.write(bytes);
    await this.#stdout.flush();
  }

  /** Resolves when the buffers are small again; rejects when standard output is gone. */
  async drained(): Promise<void> {
    await this.#stdout.drained();
  }

  /** Whether `drained` would have to wait: asked per event by producers of many. */
  get full(): boolean {
    return this.#stdout.full;
  }

  /** Resolves when all is written. */
  async flush(): Promise<void> {
    this.progress.end();
    await this.#stdout.flush();
    await this.#stderr.flush();
  }

  /** Standard output is given up, and who waits for it fails with `reason`; standard error goes on. */
  giveUp(reason: Failure): void {
    this.#stdout.giveUp(reason);
    if (this.#stderr === this.#stdout) this.#stderr = new Sink(STDERR, 'standard error');
  }

  /** Resolves when standard error is written. */
  async flushErrors(): Promise<void> {
    this.progress.end();
    await this.#stderr.flush();
  }
}
