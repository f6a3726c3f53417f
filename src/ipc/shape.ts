/**
 * Shapes: what a message's payload must look like. A shape checks a decoded
 * value completely and copies nothing; what does not fit throws a Failure that
 * names the place. Every string, list and buffer has a declared limit.
 */
import { Failure } from '../error.ts';

/** Checks `value` and returns it typed; `at` names the place for the error. */
export type Shape<T> = (value: unknown, at: string) => T;

/** What a shape's payload is. */
export type PayloadOf<S> = S extends Shape<infer T> ? T : never;

function refuse(at: string, expected: string, value: unknown): never {
  const got = value === null ? 'null' : Array.isArray(value) ? 'list' : typeof value;
  throw new Failure('malformed field', at, { cause: `expected ${expected}, got ${got}` });
}

/** A whole number from `min` to `max` (default 0 to 2^53-1). */
export function integer(min = 0, max = Number.MAX_SAFE_INTEGER): Shape<number> {
  return (value, at) => {
    // msgpack may deliver what does not fit 32 bits as a bigint
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < min || number > max)
      refuse(at, `integer from ${min} to ${max}`, value);
    return number;
  };
}

/** Any finite number. */
export const real: Shape<number> = (value, at) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) refuse(at, 'number', value);
  return value;
};

export const boolean: Shape<boolean> = (value, at) => {
  if (typeof value !== 'boolean') refuse(at, 'boolean', value);
  return value;
};

/** A string of at most `maxChars` UTF-16 units. */
export function text(maxChars: number): Shape<string> {
  return (value, at) => {
    if (typeof value !== 'string' || value.length > maxChars)
      refuse(at, `text of at most ${maxChars} characters`, value);
    return value;
  };
}

/** A buffer of `minBytes` to `maxBytes` bytes. */
export function bytes(maxBytes: number, minBytes = 0): Shape<Buffer> {
  return (value, at) => {
    if (!(value instanceof Uint8Array) || value.length > maxBytes || value.length < minBytes)
      refuse(at, `${minBytes} to ${maxBytes} bytes`, value);
    return Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.length);
  };
}

/** One of the given words. */
export function oneOf<const W extends readonly string[]>(...words: W): Shape<W[number]> {
  return (value, at) => {
    if (typeof value !== 'string' || !words.includes(value)) refuse(at, `one of ${words.join(', ')}`, value);
    return value as W[number];
  };
}

/** A list of at most `maxItems`. */
export function list<T>(item: Shape<T>, maxItems: number): Shape<T[]> {
  return (value, at) => {
    if (!Array.isArray(value) || value.length > maxItems) refuse(at, `list of at most ${maxItems}`, value);
    for (let i = 0; i < value.length; i++) value[i] = item(value[i], `${at}[${i}]`);
    return value as T[];
  };
}

/** The value, or undefined where the field is missing or nil. */
export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return (value, at) => (value === undefined || value === null ? undefined : shape(value, at));
}

type Fields = Readonly<Record<string, Shape<unknown>>>;
type RecordOf<F extends Fields> = { [K in keyof F]: PayloadOf<F[K]> };

/** An object with exactly these fields; one that is not declared is refused. */
export function record<F extends Fields>(fields: F): Shape<RecordOf<F>> {
  const names = Object.keys(fields);
  return (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array)
      refuse(at, 'record', value);
    for (const name in value) {
      if (!Object.hasOwn(fields, name))
        throw new Failure('malformed field', `${at}.${name.slice(0, 64)}`, { cause: 'not declared' });
    }
    const object = value as Record<string, unknown>;
    for (const name of names) {
      const shape = fields[name] as Shape<unknown>;
      const checked = shape(object[name], `${at}.${name}`);
      if (checked !== undefined) object[name] = checked;
      else delete object[name];
    }
    return object as RecordOf<F>;
  };
}

/** A payload without content. */
export const nothing = record({});
