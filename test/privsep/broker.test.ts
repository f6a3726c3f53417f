/** What a child may ask, in which phase and how often: anything else ends its channel, by name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describe } from '../../src/error.ts';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import { message } from '../../src/ipc/message.ts';
import { integer, nothing, record } from '../../src/ipc/shape.ts';
import { Broker, type Phase, type RequestRule } from '../../src/privsep/broker.ts';
import { Bucket } from '../../src/privsep/bucket.ts';
import { ParentChannel } from '../../src/privsep/pace.ts';
import { REQUESTS } from '../../src/processes/requests.ts';

const ASK = message(40, 'ask', record({ number: integer() }), { maxDescriptors: 2 });
const ANSWER = message(41, 'answer', nothing);
const TELL = message(42, 'tell', nothing);
const WHISPER = message(43, 'whisper', nothing);
const OTHER = message(44, 'other', nothing);
const RULES: readonly RequestRule[] = [
  { type: ASK, kind: 'query', phases: ['working'], atOnce: 4, perSecond: 1 },
  { type: TELL, kind: 'message', phases: ['starting', 'working'], atOnce: 3, perSecond: 1 },
  { type: WHISPER, kind: 'message', phases: ['working'], atOnce: 3, perSecond: 1, excess: 'dropped' },
];

/** Both ends: the child's may be one that waits, or, taken over, one that does not. */
class Pair {
  phase: Phase = 'working';
  nowMs = 0;
  readonly child: Channel;
  readonly broker: Broker;
  readonly seen: string[] = [];
  /** answers wait for these */
  readonly held: (() => void)[] = [];
  readonly over: Promise<string>;

  constructor(isPaced: boolean, holds = false) {
    const [ours, theirs] = channelPair();
    const parent = new Channel(ours, { name: 'control' });
    const clock = (): number => this.nowMs;
    this.child = isPaced
      ? new ParentChannel(theirs, RULES, clock, { name: 'parent' })
      : new Channel(theirs, { name: 'parent' });
    this.broker = new Broker(parent, { rules: RULES, phase: () => this.phase, nowMs: clock });
    this.broker.answer(ASK, async (received, channel) => {
      this.seen.push(`ask ${received.payload.number}`);
      if (holds) await new Promise<void>((resolve) => this.held.push(resolve));
      channel.reply(received, ANSWER, {});
    });
    this.broker.answer(TELL, () => void this.seen.push('tell'));
    this.broker.answer(WHISPER, () => void this.seen.push('whisper'));
    this.over = parent.dispatch().then(() => 'closed', describe);
    this.child.dispatch().catch(() => undefined);
  }

  ask(number: number): Promise<unknown> {
    const asked = this.child.query(ASK, { number }, ANSWER);
    asked.catch(() => undefined);
    return asked;
  }

  async close(): Promise<void> {
    this.child.close();
    await this.over;
  }
}

test('what is declared is answered; another phase, kind, rate or number of open questions is fatal, by name', async () => {
  const good = new Pair(false);
  await good.ask(1);
  good.child.message(TELL, {});
  await good.close();
  assert.deepEqual(good.seen, ['ask 1', 'tell']);

  const early = new Pair(false);
  early.phase = 'starting';
  early.ask(1);
  assert.equal(await early.over, 'channel control: refuse ask: not while starting');
  assert.deepEqual(early.seen, []);

  const late = new Pair(false);
  late.phase = 'stopping';
  late.child.message(TELL, {});
  assert.equal(await late.over, 'channel control: refuse tell: not while stopping');

  const unanswerable = new Pair(false);
  unanswerable.child.query(TELL, {}, ANSWER).catch(() => undefined);
  assert.equal(await unanswerable.over, 'channel control: refuse tell: it must be a message');
  const unasked = new Pair(false);
  unasked.child.message(ASK, { number: 1 }, [0]);
  assert.match(await unasked.over, /refuse ask: it must be a query$/);

  const often = new Pair(false);
  for (let i = 0; i < 4; i++) often.child.message(TELL, {});
  assert.match(await often.over, /refuse tell: more than 1 in a second$/);
  assert.equal(often.seen.length, 3);

  const open = new Pair(false, true);
  for (let i = 0; i < 5; i++) open.ask(i);
  assert.match(await open.over, /refuse ask: 4 are unanswered$/);

  const unknown = new Pair(false);
  unknown.child.message(OTHER, {});
  assert.equal(await unknown.over, 'channel control: unknown message 44');
});

test('what may be dropped is dropped, until it is a flood', async () => {
  const pair = new Pair(false);
  for (let i = 0; i < 100; i++) pair.child.message(WHISPER, {});
  await pair.ask(1);
  assert.deepEqual(pair.seen, ['whisper', 'whisper', 'whisper', 'ask 1']);
  while (pair.child.closed === false) {
    for (let i = 0; i < 1000; i++) if (pair.child.writable) pair.child.message(WHISPER, {});
    await pair.child.drained();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.match(await pair.over, /refuse whisper: more than 20000 messages a second$/);
});

test('a child that is not taken over waits by itself, and says how much it did not send', async () => {
  const pair = new Pair(true, true);
  const child = pair.child as ParentChannel;
  const asked = [1, 2, 3].map((number) => pair.ask(number));
  for (let i = 0; i < 10; i++) child.message(WHISPER, {});
  while (pair.seen.length < 3) await new Promise((resolve) => setImmediate(resolve));
  // half of what the parent takes, of both
  assert.deepEqual(pair.seen.toSorted(), ['ask 1', 'ask 2', 'whisper']);
  assert.equal(child.takeMissed(WHISPER), 0, 'nothing can be said yet');
  pair.nowMs += 10_000;
  assert.equal(child.takeMissed(WHISPER), 9);
  assert.equal(child.takeMissed(WHISPER), 0);
  pair.held.shift()?.();
  await asked[0];
  while (!pair.seen.includes('ask 3')) await new Promise((resolve) => setImmediate(resolve));
  for (const answer of pair.held) answer();
  await Promise.all(asked);
  await pair.close();
});

test('no handler without a declaration, and no declaration without a handler', () => {
  const [ours, theirs] = channelPair();
  const channel = new Channel(ours, { name: 'control' });
  const broker = new Broker(channel, { rules: RULES, phase: () => 'working', nowMs: () => 0 });
  assert.throws(() => broker.answer(OTHER, () => undefined), /other is not declared for control/);
  broker.answer(ASK, () => undefined);
  assert.throws(() => broker.answer(ASK, () => undefined), /ask is not declared/);
  assert.throws(() => broker.complete(), /tell of control is declared, but has no handler/);
  broker.answer(TELL, () => undefined);
  broker.answer(WHISPER, () => undefined);
  broker.complete();
  channel.close();
  new Channel(theirs, { name: 'parent' }).close();
});

test('a bucket gives what is in it, and fills again up to its size', () => {
  const bucket = new Bucket({ atOnce: 2, perSecond: 10 }, 0);
  assert.deepEqual([bucket.take(0), bucket.take(0), bucket.take(0)], [true, true, false]);
  assert.equal(bucket.waitMs(0), 100);
  assert.deepEqual([bucket.take(99), bucket.take(100), bucket.take(100)], [false, true, false]);
  assert.deepEqual([bucket.take(9999), bucket.take(9999), bucket.take(9999)], [true, true, false]);
  assert.equal(new Bucket({ atOnce: 1, perSecond: 0 }, 0).waitMs(0), 0);
});

test('the table: each role says a thing once, and only control may have jobs done', () => {
  for (const [role, rules] of Object.entries(REQUESTS)) {
    const numbers = rules.map(({ type }) => type.number);
    assert.equal(new Set(numbers).size, numbers.length, role);
    for (const { atOnce, phases } of rules) assert.ok(atOnce >= 1 && phases.length > 0, role);
  }
  const may = (name: string): string[] =>
    Object.keys(REQUESTS).filter((role) => REQUESTS[role]?.some(({ type }) => type.name === name));
  for (const name of ['need', 'release', 'make', 'reload', 'stop', 'status', 'why'])
    assert.deepEqual(may(name), ['control'], name);
  assert.deepEqual(may('log'), Object.keys(REQUESTS));
});
