/**
 * The Debian package, on this very machine: built, installed, started by its
 * init script, used, installed over itself, removed and purged. Needs root, dpkg,
 * and a machine that has no plakard.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { rsyncDifferences } from '../processes/tree.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const CONFIGURATION = '/etc/plakard.conf';
const INIT = '/etc/init.d/plakard';
const STATE = ['/var/db/plakard', '/var/cache/plakard', '/var/run/plakard.sock', '/usr/lib/plakard'];
const USERS = ['_plakard', '_plakarc', '_plakarq'];

function run(command: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', DEBIAN_FRONTEND: 'noninteractive' };
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', env });
  assert.equal(error, undefined, `${command}: ${error?.message} (this test needs Debian's dpkg)`);
  return { status, stdout, stderr };
}

function ok(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = run(command, ...args);
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

const hasUser = (name: string): boolean => run('getent', 'passwd', name).status === 0;

describe('the Debian package', () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-deb-'));
  const at = (name: string): string => path.join(directory, name);
  let deb = '';
  let installed: string[] = [];

  before(() => {
    assert.equal(process.getuid?.(), 0, 'installing a package needs root');
    assert.notEqual(
      run('dpkg', '-s', 'plakard').status,
      0,
      'plakard is installed here: this test would remove it',
    );
    for (const name of [CONFIGURATION, ...STATE])
      assert.ok(!fs.existsSync(name), `${name} exists: it is not ours`);
    fs.chmodSync(directory, 0o755);
    fs.mkdirSync(at('source/deep'), { recursive: true });
    fs.writeFileSync(at('source/deep/file'), 'contents\n');
    fs.symlinkSync('deep/file', at('source/link'));
    const built = spawnSync(path.join(ROOT, 'bin/node'), [path.join(ROOT, 'scripts/deb.ts'), directory], {
      encoding: 'utf8',
    });
    assert.equal(built.status, 0, built.stderr);
    deb = built.stdout.trim();
  });
  after(() => {
    run('dpkg', '-P', 'plakard');
    for (const user of USERS) run('userdel', user);
    fs.rmSync(directory, { recursive: true });
  });

  const configure = (more = ''): void => {
    fs.writeFileSync(at('pass'), 'correct horse battery staple\n', { mode: 0o600 });
    fs.writeFileSync(
      CONFIGURATION,
      `repository "local" at "${at('repository')}" { passphrase file "${at('pass')}" }
source "home" { path "${at('source')}" }
${more}`,
    );
  };

  test('is well-formed: root owns all of it, and its scripts and files are where Debian has them', () => {
    const contents = ok('dpkg-deb', '-c', deb);
    for (const line of contents.trim().split('\n')) {
      const [mode = '', owner] = line.split(' ');
      assert.equal(owner, 'root/root', line);
      // a link has no mode of its own
      if (!mode.startsWith('l')) assert.doesNotMatch(mode, /^.{5}w|^.{8}w|[st]/, line);
    }
    assert.match(ok('dpkg-deb', '-f', deb, 'Version'), /^\d+\.\d+\.\d+$/m);
    assert.equal(ok('dpkg-deb', '-I', deb, 'conffiles'), '/etc/plakard.conf\n/etc/init.d/plakard\n');
  });

  test('installs: users, commands, manual; nothing is started', () => {
    ok('dpkg', '-i', deb);
    installed = ok('dpkg', '-L', 'plakard')
      .trim()
      .split('\n')
      .filter((name) => !fs.statSync(name).isDirectory());
    for (const user of USERS) assert.ok(hasUser(user), user);
    assert.match(ok('plakarctl', 'version'), /^plakarctl \d/);
    assert.equal(run('dpkg', '--verify', 'plakard').stdout, '');
    for (const page of [
      'man8/plakard.8',
      'man8/plakarctl.8',
      'man5/plakard.conf.5',
      'man7/plakard-repository.7',
    ])
      assert.ok(installed.includes(`/usr/share/man/${page}.gz`), page);
    assert.equal(run(INIT, 'status').status, 3);
  });

  test('is started by its init script, once its configuration is good', () => {
    // the example names a passphrase that nobody has made
    const refused = run(INIT, 'start');
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /^\/etc\/plakard\.conf:\d+:\d+: .*local\.pass/m);
    configure();
    ok(INIT, 'configtest');
    ok(INIT, 'start');
    assert.match(ok(INIT, 'status'), /is running, process \d+$/m);
    ok(INIT, 'start');
  });

  test('serves: create, push, pull, reload and restart', () => {
    ok('plakarctl', 'create');
    ok('plakarctl', 'push', 'home');
    ok('plakarctl', 'pull', '-to', at('restored'), 'latest');
    assert.equal(rsyncDifferences(at('source'), at('restored')), '');
    configure(`source "more" { path "${at('source')}" }`);
    ok(INIT, 'reload');
    ok('plakarctl', 'reload');
    ok('plakarctl', 'push', 'more');
    configure('nonsense here');
    assert.notEqual(run(INIT, 'reload').status, 0);
    assert.notEqual(run(INIT, 'restart').status, 0);
    ok('plakarctl', 'status');
    configure();
    ok(INIT, 'restart');
    ok('plakarctl', 'check');
    for (const child of ['scanner', 'storage', 'chunker', 'control']) {
      const { stdout } = run('ps', '-eo', 'user:20,args');
      if (child !== 'scanner') assert.match(stdout, new RegExp(`^_plakar[cdq] +plakard: ${child}`, 'm'));
    }
  });

  test('installs over itself: the daemon is back, and the configuration stays', () => {
    const before = ok(INIT, 'status');
    ok('dpkg', '--force-confold', '-i', deb);
    assert.notEqual(ok(INIT, 'status'), before);
    assert.equal(ok('plakarctl', 'ls').trim().split('\n').length, 2);
  });

  test('is removed: the daemon stops, and what the administrator wrote stays', () => {
    ok('dpkg', '-r', 'plakard');
    assert.doesNotMatch(ok('ps', '-eo', 'user:20,args'), /^_plakar/m);
    for (const name of installed) assert.equal(fs.existsSync(name), name.startsWith('/etc/'), name);
    assert.ok(fs.existsSync('/var/db/plakard'));
  });

  test('is purged: nothing is left but the repository, and the user whose it is', () => {
    ok('dpkg', '-P', 'plakard');
    for (const name of [...installed, ...STATE]) assert.ok(!fs.existsSync(name), name);
    assert.equal(run('dpkg', '-s', 'plakard').status, 1);
    assert.deepEqual(USERS.filter(hasUser), ['_plakarq']);
    assert.ok(fs.existsSync(at('repository/config')));
    assert.ok(fs.existsSync(at('pass')));
    const links = ['0', '2', '6'].flatMap((level) => fs.readdirSync(`/etc/rc${level}.d`));
    assert.equal(
      links.some((link) => link.endsWith('plakard')),
      false,
    );
  });
});
