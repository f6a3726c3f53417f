/**
 * Traces: what a process does in detail, by topic, for whoever asks with
 * `plakarctl trace`. Used everywhere. What is not asked for costs the look at
 * one boolean: callers make a text only if `tracing` says so.
 *
 * Invariant: a trace names things, and holds neither keys nor contents.
 */

/**
 * cache: what was known already; chunk: chunks and segments that are stored and
 * read; ipc: messages; object: objects of the repository; schedule: what is due;
 * walk: directories of a source.
 */
export const TOPICS = ['cache', 'chunk', 'ipc', 'object', 'schedule', 'walk'] as const;
export type Topic = (typeof TOPICS)[number];

/** Takes one trace. */
export type TraceSink = (topic: Topic, text: string) => void;

/** Whether a topic is traced. */
export const tracing: Record<Topic, boolean> = {
  cache: false,
  chunk: false,
  ipc: false,
  object: false,
  schedule: false,
  walk: false,
};

let sink: TraceSink | undefined;

/** Traces these topics, and no others, from now on. */
export function traceTo(topics: readonly Topic[], to: TraceSink): void {
  sink = to;
  for (const topic of TOPICS) tracing[topic] = topics.includes(topic);
}

/** Says what is being done: `if (tracing.chunk) trace('chunk', …)`. */
export function trace(topic: Topic, text: string): void {
  sink?.(topic, text);
}
