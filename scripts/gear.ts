/**
 * Assembles src/snapshot/gear.wat into src/snapshot/gear.ts. Run it with
 * `npm run gear` after changing the former; a test compares.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import wabt from 'wabt';

const DIRECTORY = path.join(import.meta.dirname, '../src/snapshot');
const LINE = 100;

/** What gear.ts should be. */
export async function gearSource(): Promise<string> {
  const source = fs.readFileSync(path.join(DIRECTORY, 'gear.wat'), 'utf8');
  const parsed = (await wabt()).parseWat('gear.wat', source, { simd: true, mutable_globals: true });
  const bytes = Buffer.from(parsed.toBinary({}).buffer).toString('base64');
  const lines = bytes.match(new RegExp(`.{1,${LINE}}`, 'g')) ?? [];
  return [
    '/** gear.wat, assembled by `npm run gear`. */',
    'export const GEAR_MODULE: Buffer = Buffer.from(',
    ...lines.map((line, i) => `  ${i === 0 ? '' : '  '}'${line}'${i + 1 < lines.length ? ' +' : ','}`),
    "  'base64',",
    ');',
    '',
  ].join('\n');
}

if (import.meta.main) fs.writeFileSync(path.join(DIRECTORY, 'gear.ts'), await gearSource());
