/**
 * A real daemon for ten minutes (SOAK_SECONDS) under everything at once, drawn
 * from a seed (SOAK_SEED): nothing leaks, nothing acknowledged is lost, nothing
 * hangs. Its figures are printed as diagnostics.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { Daemon } from '../parent/daemon.ts';
import { randomOf, Soak } from './soak.ts';

const SECONDS = Number(process.env.SOAK_SECONDS ?? '600');
const SEED = Number(process.env.SOAK_SEED ?? '1');
const SAMPLE_MS = 2000;
/** Beyond what a process that does nothing had when it was young; storage keeps some packs open. */
const DESCRIPTORS_MORE_MAX = 4;
const OPEN_PACKS_MAX = 16;
const PARENT_MAX_KB = 200 << 10;
const SLOPE_MAX_KB_PER_MINUTE = 2048;
const RESTORED = 20;
/** Of the daemon's log, where something went wrong. */
const LINES_TOLD = 5000;

interface Sample {
  readonly atMs: number;
  readonly rssKb: number;
  readonly descriptors: number;
}

function sampleOf(pid: number): Sample {
  const rssKb = Number(/^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
  return { atMs: performance.now(), rssKb, descriptors: fs.readdirSync(`/proc/${pid}/fd`).length };
}

/** How fast memory grows, by least squares, in KB a minute. */
function slopeOf(samples: readonly Sample[]): number {
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, each) => sum + each, 0) / values.length;
  const x = samples.map(({ atMs }) => atMs / 60_000);
  const y = samples.map(({ rssKb }) => rssKb);
  const [mx, my] = [mean(x), mean(y)];
  const over = x.reduce((sum, each, i) => sum + (each - mx) * ((y[i] ?? 0) - my), 0);
  return over / x.reduce((sum, each) => sum + (each - mx) ** 2, 0);
}

/** What every process has while nothing happens, by its name. */
function idle(daemon: Daemon, soak: Soak): Map<string, Sample> {
  const pids = new Map([['parent', daemon.pid], ...soak.children()]);
  return new Map([...pids].map(([name, pid]) => [name, sampleOf(pid)]));
}

/** Has everything that can run run, and be at rest. */
async function settle(daemon: Daemon): Promise<void> {
  daemon.configure();
  await daemon.ok('reload');
  await daemon.ok('push', 'home');
  for (;;) if (((await daemon.status()).jobs as unknown[]).length === 0) return;
}

test(`a daemon under everything for ${SECONDS} s, seed ${SEED}`, {
  timeout: (SECONDS + 600) * 1000,
}, async (t) => {
  const daemon = new Daemon({ stallTimeoutMs: 5000 });
  t.after(() => daemon.clear());
  const soak = new Soak(daemon, SEED);
  soak.plant();
  await daemon.start();
  await daemon.ok('create');
  await settle(daemon);
  const young = idle(daemon, soak);
  const samples: Sample[] = [];
  const sampler = setInterval(() => samples.push(sampleOf(daemon.pid)), SAMPLE_MS);
  await soak.run(SECONDS);
  clearInterval(sampler);
  await settle(daemon);
  const old = idle(daemon, soak);

  t.diagnostic(`commands: ${[...soak.outcomes].map(([key, count]) => `${key}: ${count}`).join(', ')}`);
  t.diagnostic(
    `kills ${soak.kills}, bad clients ${soak.badClients}, hang-ups ${soak.hangups}, ` +
      `acknowledged ${soak.acknowledged.length}, restored ${soak.restores}, faults ${soak.faults.length}`,
  );
  const second = samples.slice(samples.length / 2);
  const slope = slopeOf(second);
  const peakKb = Math.max(...samples.map(({ rssKb }) => rssKb));
  t.diagnostic(
    `parent: ${samples[0]?.rssKb} kB at first, ${peakKb} at most, ${samples.at(-1)?.rssKb} at last`,
  );
  t.diagnostic(`parent: ${slope.toFixed(0)} kB a minute in the second half`);
  for (const [name, { rssKb, descriptors }] of old) {
    const was = young.get(name);
    t.diagnostic(`${name}: descriptors ${was?.descriptors} to ${descriptors}, ${was?.rssKb} to ${rssKb} kB`);
  }
  if (soak.faults.length > 0) for (const line of daemon.lines.slice(-LINES_TOLD)) t.diagnostic(line);

  const listed = await daemon.ok('-j', 'ls');
  for (const { snapshot } of soak.acknowledged) assert.ok(listed.includes(snapshot), `${snapshot} is lost`);
  const check = await daemon.run('check');
  assert.equal(check.code, 0, check.stderr);
  const random = randomOf(SEED);
  for (let i = 0; i < RESTORED; i++) {
    const picked = soak.acknowledged[Math.floor(random() * soak.acknowledged.length)];
    assert.ok(picked);
    assert.equal(await soak.restore(picked), 0);
  }
  assert.deepEqual(soak.faults, []);
  assert.ok(soak.kills > 0 && soak.acknowledged.length > 0);
  for (const [name, { descriptors }] of old) {
    const more = DESCRIPTORS_MORE_MAX + (name.startsWith('storage ') ? OPEN_PACKS_MAX : 0);
    const most = (young.get(name)?.descriptors ?? 0) + more;
    assert.ok(descriptors <= most, `${name} has ${descriptors} descriptors`);
  }
  assert.ok(peakKb < PARENT_MAX_KB, `${peakKb} kB`);
  if (SECONDS >= 300) assert.ok(slope < SLOPE_MAX_KB_PER_MINUTE, `${slope} kB a minute`);
  const log = daemon.lines.filter((line) => /TypeError|RangeError|assert/i.test(line));
  assert.deepEqual(log, []);
});
