/** Id number `i` of a seed: reader and writer make the same ones. */
export function idFor(seed: number, i: number, id: Buffer): void {
  for (let word = 0; word < 3; word++) {
    let h = (seed + i * 3 + word) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x45d9f3b);
    h = Math.imul(h ^ (h >>> 16), 0x45d9f3b);
    id.writeInt32LE(h ^ (h >>> 16), 4 * word);
  }
}
