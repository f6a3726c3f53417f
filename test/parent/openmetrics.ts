/**
 * A parser of OpenMetrics text for the tests, after the grammar and rules of
 * https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
 * It throws at whatever a scraper would refuse.
 */
import assert from 'node:assert/strict';

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  gauge: [''],
  counter: ['_total'],
  info: ['_info'],
};
const SAMPLE =
  /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/g;

/** Values by sample as it is written, with its labels in the order of their names: `x{a="1"}`. */
export function parseOpenMetrics(text: string): Map<string, number> {
  assert.ok(text.endsWith('# EOF\n'), 'it does not end as it must');
  const values = new Map<string, number>();
  const families = new Set<string>();
  let name = '';
  let type = '';
  for (const line of text.slice(0, -'# EOF\n'.length).split('\n').slice(0, -1)) {
    const [hash, word, family = '', rest = ''] = /^(#) (\w+) (\S+) (.*)$/.exec(line)?.slice(1) ?? [];
    if (hash !== undefined && word === 'TYPE') {
      assert.match(family, NAME);
      assert.ok(!families.has(family), `${family} comes twice`);
      assert.ok(rest in SUFFIXES, `${family} is of type ${rest}`);
      families.add(family);
      [name, type] = [family, rest];
    } else if (hash !== undefined) {
      assert.equal(word, 'HELP', line);
      assert.equal(family, name, 'it is the help of another family');
    } else {
      const [, sample = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
      assert.ok(
        SUFFIXES[type]?.some((suffix) => sample === name + suffix),
        `${line} is no sample of ${name}`,
      );
      const pairs = [...labels.matchAll(LABEL)].map(([, label = '', is = '']) => `${label}="${is}"`).sort();
      const key = pairs.length === 0 ? sample : `${sample}{${pairs.join(',')}}`;
      assert.ok(!values.has(key), `${key} comes twice`);
      assert.ok(value !== '' && Number.isFinite(Number(value)), line);
      if (type === 'counter') assert.ok(Number(value) >= 0, line);
      values.set(key, Number(value));
    }
  }
  return values;
}
