/** What a real daemon traces, for whom, and that it ends with them. */
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { Daemon } from './daemon.ts';

interface Trace {
  readonly process: string;
  readonly topic: string;
  readonly text: string;
}

describe('traces', () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
    await daemon.ok('create');
    await daemon.ok('push', 'home');
  });
  after(() => daemon.clear());

  /** Traces while `work` is done, until one comes that is `last`. */
  async function during(work: () => Promise<unknown>, last: RegExp, ...args: string[]): Promise<Trace[]> {
    const { process: tracer, done } = daemon.begin('-j', 'trace', ...args);
    assert.ok(tracer.stdout);
    const traces: Trace[] = [];
    while (!/^plakard_tracers 1$/m.test(await daemon.ok('metrics')));
    const worked = work();
    for await (const line of createInterface(tracer.stdout)) {
      const trace = JSON.parse(line) as Trace;
      traces.push(trace);
      if (last.test(`${trace.process}: ${trace.topic}: ${trace.text}`)) break;
    }
    await worked;
    tracer.kill('SIGINT');
    assert.equal((await done).code, 130);
    return traces;
  }

  test('tell what every process does, under its name and topic, and no secrets', async () => {
    const push = () => daemon.ok('push', daemon.path('source'));
    const traces = await during(push, /^storage local: object: write snapshots\//);
    const seen = new Set(traces.map(({ process, topic }) => `${process}: ${topic}`));
    for (const each of ['parent: ipc', 'control: ipc', 'chunker local: cache', 'storage local: object'])
      assert.ok(seen.has(each), each);
  });

  test('are of the topics and the process that were asked for alone', async () => {
    const traces = await during(
      () => daemon.ok('push', 'home'),
      /open directory/,
      '-process',
      'scanner',
      'walk',
      'ipc',
    );
    assert.deepEqual([...new Set(traces.map(({ process }) => process))], ['scanner home']);
    assert.ok(traces.some(({ topic }) => topic === 'ipc'));
  });

  test('end with whoever asked, also for processes that start later', async () => {
    while (!/^plakard_tracers 0$/m.test(await daemon.ok('metrics')));
    const kill = async (): Promise<unknown> => {
      process.kill(await daemon.child('storage local'), 'SIGKILL');
      return daemon.ok('push', 'home');
    };
    const traces = await during(kill, /list snapshots/, '-process', 'storage local', 'object');
    assert.deepEqual(
      [...new Set(traces.map(({ process, topic }) => `${process} ${topic}`))],
      ['storage local object'],
    );
  });

  test('are refused in words where there is nothing to trace', async () => {
    assert.match((await daemon.run('trace', 'nonsense')).stderr, /not a topic/);
    const { code, stderr } = await daemon.run('trace', '-process', 'nobody');
    assert.equal(code, 1);
    assert.match(stderr, /^plakarctl: trace nobody: no such process runs \(plakarctl status lists them\)\n$/);
  });
});
