/** npm start on the real daemon and client: the whole way of a tree with odd files there and back. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';

const ROOT = path.join(import.meta.dirname, '../..');

let top = '';

/** A tree with one of each of what a file system holds. */
function plant(directory: string): void {
  const at = (name: string): string => path.join(directory, name);
  fs.mkdirSync(at('sub/empty'), { recursive: true });
  fs.writeFileSync(at('file'), 'contents', { mode: 0o4711 });
  fs.writeFileSync(at('big'), Buffer.alloc(5_000_000, 'plakard '));
  fs.writeFileSync(at('secret'), 'nobody else', { mode: 0o000 });
  fs.chownSync(at('secret'), 52007, 52008);
  fs.truncateSync(at('big'), 40_000_000);
  fs.linkSync(at('file'), at('sub/second name'));
  fs.symlinkSync('nowhere', at('link'));
  fs.writeFileSync(
    Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0x0a, 0x22])]),
    'odd name',
  );
  execFileSync('mkfifo', [at('fifo')]);
  execFileSync('mknod', [at('device'), 'c', '1', '3']);
  execFileSync('setfattr', ['-n', 'user.plakard', '-v', 'value', at('file')]);
  fs.utimesSync(at('sub/empty'), -1e9, -1_000_000_000.5);
}

before(() => {
  top = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-')));
});
after(() => fs.rmSync(top, { recursive: true }));

test('npm start brings a tree back as it was, from the real daemon', () => {
  const tree = path.join(top, 'tree');
  const source = path.join(top, 'source');
  plant(source);
  fs.mkdirSync(tree);
  for (const name of ['node_modules', 'package.json', 'src'])
    fs.symlinkSync(path.join(ROOT, name), path.join(tree, name));
  for (const name of ['bin', 'scripts'])
    fs.cpSync(path.join(ROOT, name), path.join(tree, name), { recursive: true });
  const args = [path.join(tree, 'scripts/quickstart.ts'), source];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /^identical: 11 entries, /m);
});
