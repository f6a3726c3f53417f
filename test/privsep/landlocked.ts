/** A process that is restricted by Landlock alone, and tries things: for landlock.test.ts, which reads what came of each. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import { Worker } from 'node:worker_threads';
import { restrict } from '../../src/privsep/landlock.ts';
import type { Profile } from '../../src/privsep/seccomp.ts';
import { setNoNewPrivs } from '../../src/sys/process.ts';

const [profile = 'worker', directory = '/', stranger = '0'] = process.argv.slice(2);
const THREADS = 4;

async function outcome(attempt: () => unknown): Promise<string> {
  try {
    await attempt();
    return 'done';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** The same on all threads of the pool: one that waits for others cannot take a second task. */
async function onPool(attempt: () => Promise<unknown>): Promise<string[]> {
  const outcomes = await Promise.all(Array.from({ length: 8 * THREADS }, () => outcome(attempt)));
  return [...new Set(outcomes)];
}

function connect(): Promise<void> {
  return new Promise((resolve, reject) => {
    net.connect({ host: '127.0.0.1', port: 1 }).on('error', reject).on('connect', resolve);
  });
}

function inWorker(): Promise<string> {
  const source = `
    const { parentPort } = require('node:worker_threads');
    const code = (attempt) => { try { attempt(); return 'done'; } catch (error) { return error.code; } };
    parentPort.postMessage(code(() => require('node:fs').writeFileSync(${JSON.stringify(`${directory}/worker`)}, '')));`;
  return new Promise((resolve, reject) => {
    new Worker(source, { eval: true }).on('message', resolve).on('error', reject);
  });
}

// the pool starts with its first task
await fs.promises.stat('/');
setNoNewPrivs();
process.chdir(directory);
const version = await restrict(profile as Profile);
const file = `${directory}/file`;
const outcomes = {
  version,
  read: await outcome(() => fs.readFileSync(file)),
  'read on pool': await onPool(() => fs.promises.readFile(file)),
  list: await outcome(() => fs.readdirSync(directory)),
  write: await outcome(() => fs.writeFileSync(`${directory}/new`, 'x')),
  'write on pool': await onPool(() => fs.promises.writeFile(`${directory}/new`, 'x')),
  'truncate on pool': await onPool(() => fs.promises.truncate(file, 0)),
  'remove on pool': await onPool(() => fs.promises.rm(`${directory}/removable`)),
  link: await outcome(() => fs.symlinkSync('x', `${directory}/link`)),
  worker: await inWorker(),
  execute: await outcome(() => {
    const { error } = spawnSync('/bin/true');
    if (error !== undefined) throw error;
  }),
  connect: await outcome(connect),
  signal: await outcome(() => process.kill(Number(stranger), 0)),
};
process.stdout.write(JSON.stringify(outcomes));
