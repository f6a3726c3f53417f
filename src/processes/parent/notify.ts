/**
 * What the service manager is told: sd_notify(3), without a library. Used by the
 * command. Where no manager listens, nothing happens.
 *
 * Invariant: the variables are taken out of the environment, so that no child
 * and no hook can speak for the daemon.
 */
import { writeSync } from 'node:fs';
import { describe, Failure } from '../../error.ts';
import type { Log } from '../../log.ts';
import { connectDatagram } from '../../sys/datagram.ts';

export interface NotifyOptions {
  readonly log: Log;
  readonly environment: NodeJS.ProcessEnv;
  readonly pid: number;
  /** of CLOCK_MONOTONIC, in µs */
  readonly monotonicUsec: () => bigint;
}

export class ServiceManager {
  readonly #options: NotifyOptions;
  readonly #watchdogMs: number | undefined;
  #socket: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: NotifyOptions) {
    this.#options = options;
    const { environment, pid, log } = options;
    const { NOTIFY_SOCKET: path, WATCHDOG_USEC: usec, WATCHDOG_PID: watched } = environment;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[name];
    const isWatched = usec !== undefined && /^\d{1,15}$/.test(usec) && (watched ?? `${pid}`) === `${pid}`;
    this.#watchdogMs = isWatched ? Number(usec) / 1000 : undefined;
    if (path === undefined) return;
    try {
      this.#socket = connectDatagram(path);
    } catch (cause) {
      log.warn(describe(new Failure('notify service manager', path, { cause })), { process: 'parent' });
    }
  }

  /** Clients can connect. From now on the manager is told that the event loop turns. */
  ready(status: string): void {
    this.#say('READY=1', `MAINPID=${this.#options.pid}`, `STATUS=${status}`);
    if (this.#watchdogMs === undefined || this.#socket === undefined || this.#timer !== undefined) return;
    // sd_watchdog_enabled(3): at half of the time
    this.#timer = setInterval(() => this.#say('WATCHDOG=1'), this.#watchdogMs / 2);
    this.#timer.unref();
  }

  status(text: string): void {
    this.#say(`STATUS=${text}`);
  }

  /** The configuration is being read again; `ready` says that this is over. */
  reloading(): void {
    this.#say('RELOADING=1', `MONOTONIC_USEC=${this.#options.monotonicUsec()}`);
  }

  stopping(): void {
    clearInterval(this.#timer);
    this.#say('STOPPING=1');
  }

  #say(...lines: readonly string[]): void {
    if (this.#socket === undefined) return;
    const text = lines.map((line) => line.replaceAll('\n', ' ')).join('\n');
    try {
      writeSync(this.#socket, text);
    } catch (cause) {
      const { log } = this.#options;
      log.debug(describe(new Failure('notify service manager', '', { cause })), { process: 'parent' });
    }
  }
}
