/**
 * `npm run deb [-- DIRECTORY]`: builds plakard_VERSION_ARCHITECTURE.deb in the
 * directory named, or in dist.deb, and prints its path. The package holds the
 * compiled program, the packages of production as they are installed here, and
 * the pinned runtime: it needs no Node.js and no network where it is installed.
 * INSTALLED is the one table of what goes where.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { gzipSync } from 'node:zlib';
import { VERSION } from '../src/version.ts';

const ROOT = path.join(import.meta.dirname, '..');
const LIB = 'usr/lib/plakard';
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

interface Installed {
  readonly from: string;
  readonly to: string;
  readonly mode?: number;
  readonly compressed?: true;
}

const INSTALLED: readonly Installed[] = [
  { from: 'etc/plakard.conf', to: 'etc/plakard.conf' },
  { from: 'etc/debian/init', to: 'etc/init.d/plakard', mode: 0o755 },
  { from: 'etc/plakard.service', to: 'usr/lib/systemd/system/plakard.service' },
  { from: 'etc/plakard.sysusers', to: 'usr/lib/sysusers.d/plakard.conf' },
  { from: 'etc/plakard.tmpfiles', to: 'usr/lib/tmpfiles.d/plakard.conf' },
  { from: 'etc/completions/plakarctl.bash', to: 'usr/share/bash-completion/completions/plakarctl' },
  { from: 'etc/completions/_plakarctl', to: 'usr/share/zsh/vendor-completions/_plakarctl' },
  { from: 'etc/completions/plakarctl.fish', to: 'usr/share/fish/vendor_completions.d/plakarctl.fish' },
  { from: 'LICENSE', to: 'usr/share/doc/plakard/copyright' },
  { from: 'CHANGELOG.md', to: 'usr/share/doc/plakard/changelog.gz', compressed: true },
];
/** The administrator's, once they are changed. */
const CONFFILES = ['/etc/plakard.conf', '/etc/init.d/plakard'];
const SCRIPTS = ['postinst', 'prerm', 'postrm'];
const LINKS: readonly (readonly [link: string, to: string])[] = [
  ['usr/bin/plakarctl', '../lib/plakard/bin/plakarctl'],
  ['usr/sbin/plakard', '../lib/plakard/bin/plakard'],
];
/** Directories that are empty at first. Below the last, the example's repository. */
const DIRECTORIES: readonly (readonly [name: string, mode: number])[] = [
  ['var/db/plakard', 0o700],
  ['var/cache/plakard', 0o700],
  ['var/plakard', 0o711],
];
/** What no package needs to run: names directly in it, and prebuilt code of other machines. */
const NEEDLESS =
  /\/(?:test|tests|example|examples|docs?|deps|include|share|\.github|binding\.gyp|[A-Z]+\.md)$|\.(?:d\.[cm]?ts|map)$/;
const FOREIGN = new RegExp(`/prebuilds/(?!linux-${process.arch}(?:/|$))[^/]+$`);

/** The packages of production that are installed, as paths below the root. */
function packages(): string[] {
  const lock = JSON.parse(fs.readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
  };
  return Object.entries(lock.packages)
    .filter(([name, { dev, devOptional }]) => name !== '' && dev !== true && devOptional !== true)
    .map(([name]) => name)
    .filter((name) => fs.existsSync(path.join(ROOT, name)));
}

/** Copies a tree without what is needless; owned by root, with plain modes. */
function copy(from: string, to: string): void {
  fs.cpSync(from, to, {
    recursive: true,
    dereference: true,
    filter: (name) => {
      const inside = name.slice(from.length);
      return !/^\/node_modules(\/|$)/.test(inside) && !NEEDLESS.test(inside) && !FOREIGN.test(inside);
    },
  });
}

function place(stage: string, { from, to, mode = 0o644, compressed }: Installed): void {
  const target = path.join(stage, to);
  fs.mkdirSync(path.dirname(target), { recursive: true });
  const bytes = fs.readFileSync(path.join(ROOT, from));
  fs.writeFileSync(target, compressed ? gzipSync(bytes, { level: 9 }) : bytes);
  fs.chmodSync(target, mode);
}

/** The program: compiled, with its packages and its launchers. */
function placeProgram(stage: string): void {
  const lib = path.join(stage, LIB);
  fs.mkdirSync(lib, { recursive: true });
  const tsc = path.join(ROOT, 'node_modules/.bin/tsc');
  const dist = path.join(lib, 'dist');
  execFileSync(tsc, ['-p', path.join(ROOT, 'tsconfig.build.json'), '--outDir', dist]);
  execFileSync(process.execPath, [path.join(import.meta.dirname, 'bundle.ts'), dist]);
  for (const name of ['plakard', 'plakarctl', 'runtime', 'start.cjs', 'daemon.cjs'])
    place(stage, { from: `bin/${name}`, to: `${LIB}/bin/${name}`, mode: 0o755 });
  place(stage, { from: 'package.json', to: `${LIB}/package.json` });
  for (const name of packages()) copy(fs.realpathSync(path.join(ROOT, name)), path.join(lib, name));
}

function placeManual(stage: string): void {
  for (const page of fs.readdirSync(path.join(ROOT, 'man'))) {
    const section = path.extname(page).slice(1);
    place(stage, { from: `man/${page}`, to: `usr/share/man/man${section}/${page}.gz`, compressed: true });
  }
}

/** Every regular file below `stage`, relative to it, sorted. */
function filesIn(stage: string): string[] {
  return fs
    .readdirSync(stage, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(stage, path.join(entry.parentPath, entry.name)))
    .sort();
}

function placeControl(stage: string, architecture: string): void {
  const files = filesIn(stage);
  const bytes = files.reduce((sum, file) => sum + fs.statSync(path.join(stage, file)).size, 0);
  const md5 = (file: string): string =>
    createHash('md5')
      .update(fs.readFileSync(path.join(stage, file)))
      .digest('hex');
  const sums = files.map((file) => `${md5(file)}  ${file}\n`).join('');
  const control = path.join(stage, 'DEBIAN');
  fs.mkdirSync(control);
  const values: Readonly<Record<string, string>> = {
    VERSION,
    ARCHITECTURE: architecture,
    SIZE: `${Math.ceil(bytes / 1024)}`,
  };
  const text = fs.readFileSync(path.join(ROOT, 'etc/debian/control'), 'utf8');
  fs.writeFileSync(
    path.join(control, 'control'),
    text.replace(/@(\w+)@/g, (_, name: string) => values[name] ?? ''),
  );
  fs.writeFileSync(path.join(control, 'md5sums'), sums);
  fs.writeFileSync(path.join(control, 'conffiles'), `${CONFFILES.join('\n')}\n`);
  for (const name of SCRIPTS) place(stage, { from: `etc/debian/${name}`, to: `DEBIAN/${name}`, mode: 0o755 });
}

/** Directories, and files that may be run, as the package is to have them. */
function setModes(stage: string): void {
  for (const entry of fs.readdirSync(stage, { recursive: true, withFileTypes: true })) {
    const name = path.join(entry.parentPath, entry.name);
    if (entry.isDirectory()) fs.chmodSync(name, 0o755);
    else if (entry.isFile()) fs.chmodSync(name, (fs.statSync(name).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}

/** Builds the package in `directory`; returns its path. */
function build(directory: string): string {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`no Debian architecture is known for ${process.arch}`);
  const stage = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-deb-'));
  try {
    fs.chmodSync(stage, 0o755);
    placeProgram(stage);
    placeManual(stage);
    for (const each of INSTALLED) place(stage, each);
    for (const [link, to] of LINKS) {
      fs.mkdirSync(path.dirname(path.join(stage, link)), { recursive: true });
      fs.symlinkSync(to, path.join(stage, link));
    }
    placeControl(stage, architecture);
    setModes(stage);
    for (const [name, mode] of DIRECTORIES) {
      fs.mkdirSync(path.join(stage, name), { recursive: true });
      fs.chmodSync(path.join(stage, name), mode);
    }
    fs.mkdirSync(directory, { recursive: true });
    const deb = path.join(directory, `plakard_${VERSION}_${architecture}.deb`);
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '-z1', '--build', stage, deb]);
    return deb;
  } finally {
    fs.rmSync(stage, { recursive: true });
  }
}

console.log(build(path.resolve(process.argv[2] ?? path.join(ROOT, 'dist.deb'))));
