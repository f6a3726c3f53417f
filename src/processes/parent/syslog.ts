/**
 * Where the parent's log goes when nobody watches it on a terminal: to syslog,
 * as RFC 3164 datagrams on /dev/log, which journald reads too; where there is
 * none, to standard error, which is then a file in the state directory.
 */
import { closeSync, existsSync, writeSync } from 'node:fs';
import type { Level, WriteLine } from '../../log.ts';
import { connectDatagram } from '../../sys/datagram.ts';

const SOCKET = '/dev/log';
/** RFC 3164, section 4.1.1: facility 3 (daemons) and severities. */
const FACILITY = 3;
export const SEVERITY: Readonly<Record<Level, number>> = { debug: 7, info: 6, warn: 4, error: 3 };
/** Longer datagrams are cut by many receivers. */
const LINE_MAX_BYTES = 8192;

/** Writes to syslog at `socket`, as long as it is there; otherwise to `fallback`. */
export function syslog(fallback: WriteLine, pid: number, socket = SOCKET): WriteLine {
  let fd: number | undefined;
  const send = (datagram: Buffer): void => {
    fd ??= connectDatagram(socket);
    writeSync(fd, datagram);
  };
  return (line, level, event) => {
    const text = `<${8 * FACILITY + SEVERITY[level]}>plakard[${pid}]: ${line.trimEnd()}`;
    const datagram = Buffer.from(text).subarray(0, LINE_MAX_BYTES);
    try {
      send(datagram);
    } catch {
      // it may have been restarted: once more, on a new socket
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
      try {
        send(datagram);
      } catch {
        fallback(line, level, event);
      }
    }
  };
}

/** Whether anybody reads there. */
export function hasSyslog(socket = SOCKET): boolean {
  return existsSync(socket);
}
