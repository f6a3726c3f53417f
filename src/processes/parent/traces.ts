/**
 * Who traces what: as control asks for its clients, the parent tells its
 * children, and what they trace it passes on to control. Used by the parent.
 * Invariant: traces that control does not take are counted, and never wait.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import { type PARENT_TRACE, PARENT_TRACED } from '../../messages/parent.ts';
import { TRACE, type TRACED } from '../../privsep/messages.ts';
import { TOPICS, type Topic, traceTo } from '../../trace.ts';

const PARENT = 'parent';

type Wanted = PayloadOf<typeof PARENT_TRACE.shape>['wanted'];
type Traced = PayloadOf<typeof TRACED.shape>;

type Way = Pick<Channel, 'closed' | 'writable' | 'message'>;

export interface TracesOptions {
  /** names of the children that run, and how to reach them */
  readonly running: () => readonly string[];
  readonly channel: (name: string) => Way;
  /** to control, where it runs */
  readonly control: () => Way | undefined;
  readonly now: () => number;
}

/** `storage local` is meant by its name and by its role. */
function isMeant(name: string, wanted: string | undefined): boolean {
  return wanted === undefined || wanted === name || wanted === name.replace(/ .*$/, '');
}

export class Traces {
  readonly #options: TracesOptions;
  #wanted: Wanted = [];
  #missed = 0;

  constructor(options: TracesOptions) {
    this.#options = options;
  }

  /** This, and nothing else, is traced from now on; throws if some of it is of a process that is not there. */
  set(asked: Wanted): void {
    const names = [PARENT, ...this.#options.running()];
    const wanted = asked.filter(({ process }) => names.some((name) => isMeant(name, process)));
    const before = this.#wanted;
    this.#wanted = wanted;
    traceTo(this.#topics(wanted, PARENT), (topic, text) =>
      this.traced(PARENT, { topic, text: text.slice(0, 1024), missed: 0 }),
    );
    for (const name of this.#options.running()) {
      const topics = this.#topics(wanted, name);
      if (topics.join() !== this.#topics(before, name).join()) tell(this.#options.channel(name), topics);
    }
    const unknown = asked.find((each) => !wanted.includes(each));
    if (unknown !== undefined)
      throw new Failure('trace', unknown.process ?? '', {
        cause: 'no such process runs',
        remedy: 'plakarctl status lists them',
      });
  }

  /** A child starts: it traces what the others do. */
  started(name: string, channel: Way): void {
    const topics = this.#topics(this.#wanted, name);
    if (topics.length > 0) tell(channel, topics);
  }

  /** Passes on what a process traced. */
  traced(process: string, { topic, text, missed }: Traced): void {
    this.#missed += missed;
    if (this.#wanted.length === 0) return;
    const control = this.#options.control();
    if (control === undefined || control.closed || !control.writable) {
      this.#missed++;
      return;
    }
    const timeMs = this.#options.now();
    control.message(PARENT_TRACED, { process, topic, text, timeMs, missed: this.#missed });
    this.#missed = 0;
  }

  #topics(wanted: Wanted, name: string): Topic[] {
    return TOPICS.filter((topic) =>
      wanted.some(({ process, topics }) => topics.includes(topic) && isMeant(name, process)),
    );
  }
}

function tell(channel: Way, topics: Topic[]): void {
  // one that does not read is judged by its heartbeat
  if (!channel.closed && channel.writable) channel.message(TRACE, { topics });
}
