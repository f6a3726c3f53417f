/**
 * Names as people and programs may see them. A name is bytes that somebody
 * else chose: printed as it is, it could move the cursor, retitle the window or
 * forge a line. Called by whatever prints a name. Owns the invariant that no
 * control character, no direction override and no byte that is not UTF-8
 * reaches standard output or standard error from a name.
 */

/** Bytes that print as themselves, and nothing else in the name: the common case, one test. */
const PLAIN = /^[\x20-\x5b\x5d-\x7e]*$/;
/**
 * What is escaped in a name that is UTF-8: controls (C0, DEL, C1), the backslash,
 * line and paragraph separators, direction marks and overrides, the byte order mark.
 */
const UNSAFE =
  /[\0-\x1f\\\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]/gu;
const WORDS: Readonly<Record<string, string>> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '\\': '\\\\' };

/**
 * The whole name or an error: `fatal` decoders throw at the first byte that is
 * not UTF-8. Made for the first name that is not plain.
 */
let strict: InstanceType<typeof TextDecoder> | undefined;

/** The name as text, or undefined where it is not UTF-8. */
export function textOf(name: Uint8Array): string | undefined {
  strict ??= new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return strict.decode(name);
  } catch {
    return undefined;
  }
}

function escapeCharacter(character: string): string {
  const word = WORDS[character];
  if (word !== undefined) return word;
  const code = character.codePointAt(0) ?? 0;
  return code < 0x80 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

/** Text of any origin made safe to print on one line. */
export function safeText(text: string): string {
  return PLAIN.test(text) ? text : text.replace(UNSAFE, escapeCharacter);
}

/**
 * A name made safe to print on one line: `\n`, `\t`, `\r`, `\\`, `\xHH` for a
 * byte, `\u{H}` for another character. Nothing else contains a backslash, so
 * the name can be had back from it.
 */
export function safeName(name: Buffer): string {
  const latin = name.toString('latin1');
  if (PLAIN.test(latin)) return latin;
  const text = textOf(name);
  if (text !== undefined) return text.replace(UNSAFE, escapeCharacter);
  // not UTF-8: every byte that is not plain ASCII by its number
  return latin.replace(/[^\x20-\x5b\x5d-\x7e]/g, (byte) =>
    byte === '\\' ? '\\\\' : `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/**
 * A name as fields of a JSON object: `field` as text, and `fieldBase64` beside
 * it where the bytes are not UTF-8 (the text then has U+FFFD in their place).
 */
export function nameFields(field: string, name: Buffer): Record<string, string> {
  const text = textOf(name);
  if (text !== undefined) return { [field]: text };
  return { [field]: name.toString('utf8'), [`${field}Base64`]: name.toString('base64') };
}
