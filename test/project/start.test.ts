/**
 * npm start, in a tree of its own: on stand-ins for the daemon and its client,
 * which can be told to fail.
 */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

const ROOT = path.join(import.meta.dirname, '../..');
const FAKES = path.join(import.meta.dirname, 'fake');

let top = '';
let tree = '';
let source = '';

/** Links of `names` in the tree to what is in `from`. */
function link(from: string, to: string, names: readonly string[]): void {
  for (const name of names) fs.symlinkSync(path.join(from, name), path.join(tree, to, name));
}

/** A checkout whose mains are the stand-ins. */
function plantFake(): void {
  fs.mkdirSync(path.join(tree, 'src'));
  link(path.join(ROOT, 'src'), 'src', ['error.ts', 'sys']);
  link(FAKES, 'src', ['plakard.ts', 'plakarctl.ts']);
}

interface Outcome {
  readonly status: number | null;
  readonly output: string;
}

function start(fake = ''): Outcome {
  const env = { ...process.env, PLAKARD_FAKE: fake, PLAKARD_TREE: tree, INIT_CWD: tree };
  const args = [path.join(tree, 'scripts/quickstart.ts'), source];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env });
  return { status, output: stdout + stderr };
}

/** Processes that were started in the tree and are still there. */
function leftovers(): string[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return fs.readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`PLAKARD_TREE=${tree}\0`);
      } catch {
        // It ended meanwhile.
        return false;
      }
    });
}

describe('npm start', () => {
  before(() => {
    top = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-')));
    source = path.join(top, 'source');
    fs.mkdirSync(path.join(source, 'sub'), { recursive: true });
    fs.writeFileSync(path.join(source, 'file'), 'contents');
    fs.linkSync(path.join(source, 'file'), path.join(source, 'sub/second name'));
    fs.symlinkSync('file', path.join(source, 'link'));
  });
  beforeEach(() => {
    tree = fs.mkdtempSync(path.join(top, 'tree-'));
    link(ROOT, '.', ['node_modules', 'package.json']);
    for (const name of ['bin', 'scripts'])
      fs.cpSync(path.join(ROOT, name), path.join(tree, name), { recursive: true });
  });
  after(() => fs.rmSync(top, { recursive: true }));

  test('shows each command, compares, stops what it started, and can be run again', () => {
    plantFake();
    for (let run = 0; run < 2; run++) {
      const { status, output } = start();
      assert.equal(status, 0, output);
      const commands = [...output.matchAll(/^\$ bin\/plakarctl -s quickstart\/plakard\.sock (.*)$/gm)];
      assert.deepEqual(
        commands.map(([, command]) => command),
        [
          'create',
          'push source',
          'ls',
          'check',
          'pull -to quickstart/restored latest',
          'push source',
          'ls',
          'stop',
          'ls latest',
        ],
      );
      assert.match(output, /^identical: 5 entries, 16 bytes of contents, all metadata$/m);
      assert.deepEqual(leftovers(), []);
    }
  });

  test('shows the log of a daemon that does not start', () => {
    plantFake();
    const { status, output } = start('dead');
    assert.equal(status, 1);
    assert.match(output, /The end of quickstart\/plakard\.log:\nparent: bind: no such luck\n/);
    assert.match(output, /^quick start: start the daemon: it ended at once$/m);
  });

  test('ends at a command that fails, and leaves no daemon', () => {
    plantFake();
    const { status, output } = start('check');
    assert.equal(status, 1);
    assert.match(output, /^plakarctl: check: out of order$/m);
    assert.match(
      output,
      /^quick start: run bin\/plakarctl -s quickstart\/plakard\.sock check: exit code 1$/m,
    );
    assert.doesNotMatch(output, /pull/);
    assert.deepEqual(leftovers(), []);
  });

  test('fails on a restore that is not what it was', () => {
    plantFake();
    const { status, output } = start('altered');
    assert.equal(status, 1);
    assert.match(output, /file: mode was 644, is 600/);
  });

  test('stops the daemon that an earlier one left', async () => {
    plantFake();
    assert.equal(start().status, 0);
    const quickstart = path.join(tree, 'quickstart');
    const env = { ...process.env, PLAKARD_TREE: tree };
    const configuration = path.join(quickstart, 'plakard.conf');
    const daemon = spawn(path.join(tree, 'bin/plakard'), ['-d', '-f', configuration], {
      env,
      stdio: 'ignore',
    });
    const ended = once(daemon, 'exit');
    const socket = path.join(quickstart, 'plakard.sock');
    while (!fs.existsSync(socket)) await new Promise((resolve) => setImmediate(resolve));
    const again = spawn(process.execPath, [path.join(tree, 'scripts/quickstart.ts'), source], {
      env,
      stdio: 'ignore',
    });
    assert.deepEqual((await once(again, 'exit'))[0], 0);
    await ended;
    assert.deepEqual(leftovers(), []);
  });

  test('removes no directory that it did not make', () => {
    plantFake();
    fs.mkdirSync(path.join(tree, 'quickstart'));
    fs.writeFileSync(path.join(tree, 'quickstart/mine'), '');
    const { status, output } = start();
    assert.equal(status, 1);
    assert.match(output, /^quick start: use .*: it is not a quick start \(move it away\)$/m);
    assert.ok(fs.existsSync(path.join(tree, 'quickstart/mine')));
  });
});
