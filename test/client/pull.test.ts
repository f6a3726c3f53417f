/** plakarctl pull: the target directory, what is printed, and how it ends. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Given } from '../../src/client/arguments.ts';
import { COMMANDS } from '../../src/client/commands.ts';
import type { Context } from '../../src/client/context.ts';
import { Output } from '../../src/client/output.ts';
import { ProgressLine } from '../../src/client/progress.ts';
import { run } from '../../src/client/pull.ts';
import type { Reader } from '../../src/client/reader.ts';
import { Sink } from '../../src/client/sink.ts';
import { Failure } from '../../src/error.ts';
import { MemoryChunks } from '../../src/snapshot/chunks.ts';
import { scan, scratch } from '../restore/plant.ts';

const SNAPSHOT = '99e53a9c-0000-4000-8000-000000000001';

interface Rig {
  readonly base: string;
  readonly original: string;
  readonly chunks: MemoryChunks;
  /** Runs pull with the arguments; what it printed. */
  pull(operands: string[], to?: string, options?: { overwrite?: boolean; json?: boolean }): Promise<Printed>;
}

interface Printed {
  readonly stdout: string;
  readonly stderr: string;
  readonly error: unknown;
}

function capture(): { sink: Sink; text: () => string } {
  const parts: Buffer[] = [];
  const sink = new Sink(-1, 'test', (_fd, buffer, offset, length, _position, callback) => {
    parts.push(Buffer.from(buffer.subarray(offset, offset + length)));
    callback(null, length);
  });
  return { sink, text: () => Buffer.concat(parts).toString() };
}

function rig(t: { after: (fn: () => void) => void }): Rig {
  const base = scratch(t);
  const original = path.join(base, 'original');
  fs.mkdirSync(path.join(original, 'sub/deeper'), { recursive: true });
  fs.writeFileSync(path.join(original, 'file'), 'contents');
  fs.writeFileSync(path.join(original, 'sub/other'), 'other');
  fs.writeFileSync(Buffer.concat([Buffer.from(`${original}/sub/deeper/`), Buffer.of(0xff)]), 'not UTF-8');
  fs.chmodSync(original, 0o750);
  const chunks = new MemoryChunks();
  const root = scan(original, chunks);
  const header = { root, paths: [Buffer.from(original)], counts: { files: 3, bytes: 22 } };
  const reader = Object.assign(chunks, {
    resolve: async (name: string) => {
      if (name === 'latest' || SNAPSHOT.startsWith(name)) return { name: SNAPSHOT, header };
      throw new Failure('resolve', name, { cause: 'no such snapshot' });
    },
  });
  const pull: Rig['pull'] = async (operands, to, { overwrite = false, json = false } = {}) => {
    const [stdout, stderr] = [capture(), capture()];
    const command = COMMANDS.find(({ name }) => name === 'pull');
    assert.ok(command !== undefined);
    const output = new Output({
      json,
      quiet: false,
      verbose: false,
      stdout: stdout.sink,
      stderr: stderr.sink,
      progress: new ProgressLine(undefined, () => 0),
    });
    const context: Context = {
      command,
      commands: COMMANDS,
      repository: undefined,
      output,
      signal: new AbortController().signal,
      now: () => 0,
      wallClock: () => 0,
      report: (error) => assert.fail(String(error)),
      runInner: () => assert.fail('no shell here'),
      connect: () => assert.fail('no daemon here'),
      // the parts of a reader that pull uses
      openReader: async () => reader as unknown as Reader,
    };
    const options = new Map<string, Buffer[]>();
    if (to !== undefined) options.set('to', [Buffer.from(to)]);
    if (overwrite) options.set('overwrite', []);
    const given = new Given(
      operands.map((operand) => Buffer.from(operand)),
      options,
    );
    const error = await run(context, given).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await output.flush();
    return { stdout: stdout.text(), stderr: stderr.text(), error };
  };
  return { base, original, chunks, pull };
}

describe('pull', () => {
  test('makes DIR and those above it, with the metadata of the source', async (t) => {
    const { base, original, pull } = rig(t);
    const to = path.join(base, 'a/b/c');
    const { error, stdout, stderr } = await pull(['latest'], to);
    assert.equal(error, undefined);
    assert.equal(stdout, '');
    assert.match(stderr, /^plakarctl: 3 files, 2 directories, 0 others, 22 B; 0\.0 s\n$/);
    assert.deepEqual(scan(to), scan(original));
  });

  test('a path inside: the contents of a directory, a file by its name, by the whole path as well', async (t) => {
    const { base, original, pull } = rig(t);
    const to = path.join(base, 'to');
    assert.equal((await pull(['99e5:/sub', `latest:${original}/file`], to)).error, undefined);
    assert.deepEqual(fs.readdirSync(to).sort(), ['deeper', 'file', 'other']);
    assert.equal(fs.readFileSync(path.join(to, 'file'), 'utf8'), 'contents');
  });

  test('an operand that names nothing: nothing is written', async (t) => {
    const { base, pull } = rig(t);
    const to = path.join(base, 'to');
    const { error } = await pull(['latest:/sub', 'latest:/nothing'], to);
    assert.match(String(error), /latest:\/nothing/);
    assert.equal(fs.existsSync(to), false);
  });

  test('what is there and differs is named, and exits 1; -overwrite replaces it', async (t) => {
    const { base, pull } = rig(t);
    const to = path.join(base, 'to');
    fs.mkdirSync(to);
    fs.writeFileSync(path.join(to, 'file'), 'mine');
    const { error, stderr } = await pull(['latest'], to);
    assert.ok(error instanceof Failure);
    assert.equal(error.kind, 'failed');
    assert.match(stderr, /pull: restore file: it exists, .* \(-overwrite replaces it\)\n/);
    assert.equal(fs.readFileSync(path.join(to, 'file'), 'utf8'), 'mine');
    assert.equal((await pull(['latest'], to, { overwrite: true })).error, undefined);
    assert.equal(fs.readFileSync(path.join(to, 'file'), 'utf8'), 'contents');
  });

  test('damage is named by path, in JSON byte for byte, and exits 14; the rest is there', async (t) => {
    const { base, chunks, pull } = rig(t);
    const to = path.join(base, 'to');
    for (const [name, { data }] of chunks.chunks)
      if (data.toString() === 'not UTF-8') chunks.chunks.delete(name);
    const { error, stdout } = await pull(['latest'], to, { json: true });
    assert.ok(error instanceof Failure);
    assert.equal(error.kind, 'damaged');
    const [problem, pulled] = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.equal(problem.event, 'problem');
    assert.deepEqual(
      Buffer.from(problem.pathBase64, 'base64'),
      Buffer.concat([Buffer.from('sub/deeper/'), Buffer.of(0xff)]),
    );
    assert.equal(problem.kind, 'damaged');
    assert.equal(pulled.event, 'pulled');
    assert.deepEqual([pulled.files, pulled.problems], [2, 1]);
  });

  test('a DIR that is a file', async (t) => {
    const { base, pull } = rig(t);
    const to = path.join(base, 'to');
    fs.writeFileSync(to, '');
    const { error } = await pull(['latest'], to);
    assert.match(String(error instanceof Failure && error.cause), /to/);
    assert.equal(fs.readFileSync(to, 'utf8'), '');
  });
});
