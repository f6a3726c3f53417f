/**
 * Collecting garbage in processes whose limits are such that the runtime hardly
 * does: those that somebody waits for while they start (privsep/start.ts, and
 * bin/runtime for plakarctl) collect nothing for what ref-napi declares, and so
 * next to nothing later. A scanner that stays had 136 MiB after 60 pushes, and
 * went on growing. Called by the scanner, and by what may last in plakarctl.
 * Invariant: nothing is loaded before there is something to collect, as most
 * commands end before that.
 */

/** How often it is looked at, and what may have come to be used meanwhile. */
const EACH_MS = 2000;
const GROWTH_BYTES = 32 << 20;

function usedBytes(): number {
  const { used_heap_size, external_memory } = process.getBuiltinModule('node:v8').getHeapStatistics();
  return used_heap_size + external_memory;
}

/** What `--expose-gc` gives, which as an option would be part of every start. */
function collector(): () => void {
  process.getBuiltinModule('node:v8').setFlagsFromString('--expose-gc');
  return process.getBuiltinModule('node:vm').runInNewContext('gc');
}

let isLooking = false;

/** Collects, from now on, whenever `growthBytes` more are used than were after the last time. Once is enough. */
export function collectInTime(growthBytes = GROWTH_BYTES, eachMs = EACH_MS): void {
  if (isLooking) return;
  isLooking = true;
  let least = Number.POSITIVE_INFINITY;
  let collect: (() => void) | undefined;
  const look = (): void => {
    const used = usedBytes();
    least = Math.min(least, used);
    if (used - least < growthBytes) return;
    collect ??= collector();
    collect();
    least = usedBytes();
  };
  setInterval(look, eachMs).unref();
}
