/** Message types for the tests of channels, known to both sides. */
import { message } from '../../src/ipc/message.ts';
import { bytes, integer, nothing, record, text } from '../../src/ipc/shape.ts';

export const ECHO_MAX_BYTES = 1 << 20;
const echo = record({ n: integer(), data: bytes(ECHO_MAX_BYTES) });

export const ECHO = message(1, 'echo', echo, { maxBytes: ECHO_MAX_BYTES + 64, maxDescriptors: 253 });
export const ECHOED = message(2, 'echoed', echo, { maxBytes: ECHO_MAX_BYTES + 64, maxDescriptors: 253 });
/** Answered by how many descriptors the process has open. */
export const COUNT = message(3, 'count', nothing);
export const COUNTED = message(4, 'counted', record({ descriptors: integer() }));
/** A plain message. */
export const NOTE = message(5, 'note', record({ text: text(100) }), { maxDescriptors: 4 });
/** Never answered. */
export const SILENCE = message(6, 'silence', nothing);
/** Answered by the failure of its handler. */
export const BREAK = message(7, 'break', record({ text: text(100) }));
/** Makes the peer send us a query of its own before it answers. */
export const CROSS = message(8, 'cross', echo, { maxBytes: ECHO_MAX_BYTES + 64 });
