/**
 * Snapshots as events: a line in a list, and all that a header says. Emitted by
 * ls and info.
 */
import type { Labels, Row } from '../messages/rows.ts';
import { nameFields, safeName, safeText } from './escape.ts';
import { formatBytes, formatColumns, formatMilliseconds } from './format.ts';
import type { EventType } from './output.ts';
import type { Snapshot } from './reader.ts';

/** Lines that print as themselves, whoever made them. */
export const PLAIN_LINES = /^[\x20-\x7e\n]*$/;

/** Wide enough for `999 MB`. */
const SIZE_CHARS = 6;

/** What both events have in their JSON. */
function headerFields({ name, header }: Snapshot): object {
  return {
    snapshot: name,
    time: formatMilliseconds(header.time),
    end: formatMilliseconds(header.end),
    source: header.source,
    host: header.host,
    user: header.user,
    paths: header.paths.map((path) => nameFields('path', path)),
    tags: header.tags,
    ...header.counts,
  };
}

/** `2021-11-27T00:12:04Z  99e53a9c-…  11 MB /bin [tag]` */
export const SNAPSHOT: EventType<Snapshot> = {
  name: 'snapshot',
  json: headerFields,
  text: ({ name, header }) => line(name, header.time, header.counts.bytes, labelsText(header)),
};

/** Many snapshots of a list have the size of the one before. */
let lastBytes = -1;
let lastSize = '';

function line(name: string, timeMs: number, bytes: number, labels: string): string {
  if (bytes !== lastBytes) {
    lastBytes = bytes;
    lastSize = formatBytes(bytes).padStart(SIZE_CHARS);
  }
  return `${formatMilliseconds(timeMs)}  ${name}  ${lastSize} ${labels}`;
}

function labelsText({ paths, tags }: Pick<Labels, 'paths' | 'tags'>): string {
  const marked = tags.length === 0 ? '' : ` [${tags.map(safeText).join(', ')}]`;
  return `${paths.map(safeName).join(' ')}${marked}`;
}

/** Most snapshots of a list have the labels of the one before. */
let lastLabels: Labels | undefined;
let lastText = '';

/** The line of SNAPSHOT, for a list that has no use for the rest. */
export const ROW: EventType<Row> = {
  name: 'snapshot',
  json: ({ name, timeMs }) => ({ snapshot: name, time: formatMilliseconds(timeMs) }),
  text: ({ name, timeMs, bytes, labels }) => {
    if (labels !== lastLabels) {
      lastLabels = labels;
      lastText = labelsText(labels);
    }
    return line(name, timeMs, bytes, lastText);
  },
};

/** The same with source, host and user: ls -v. */
export const SNAPSHOT_VERBOSE: EventType<Snapshot> = {
  ...SNAPSHOT,
  text: (snapshot) => {
    const { source, host, user } = snapshot.header;
    const of = source === '' ? '' : ` source ${safeText(source)}`;
    return `${SNAPSHOT.text(snapshot)}${of} by ${safeText(user)} on ${safeText(host)}`;
  },
};

export const SNAPSHOT_INFO: EventType<Snapshot> = {
  name: 'snapshot',
  json: (snapshot) => ({
    ...headerFields(snapshot),
    parent: snapshot.header.parent?.toString('hex'),
    program: snapshot.header.program,
    root: snapshot.header.root.id.toString('hex'),
    errors: snapshot.header.errors.map(({ path, text }) => ({ ...nameFields('path', path), text })),
  }),
  text: (snapshot) => {
    const { name, header } = snapshot;
    const { counts } = header;
    const changes = `${counts.new} new, ${counts.changed} changed, ${counts.unchanged} unchanged`;
    const rows: [string, string][] = [
      ['snapshot', name],
      ['begun', formatMilliseconds(header.time)],
      ['ended', formatMilliseconds(header.end)],
      ['source', header.source === '' ? '-' : safeText(header.source)],
      ['paths', header.paths.map(safeName).join(' ')],
      ['tags', header.tags.length === 0 ? '-' : header.tags.map(safeText).join(', ')],
      ['by', `${safeText(header.user)} on ${safeText(header.host)}, ${safeText(header.program)}`],
      ['holds', `${counts.files} files, ${counts.directories} directories, ${counts.others} others`],
      ['of these', changes],
      ['unreadable', `${counts.unreadable}, and ${counts.inconsistent} changed while they were read`],
      ['bytes', formatBytes(counts.bytes)],
      ['cost', `${formatBytes(counts.addedBytes)} added, ${formatBytes(counts.storedBytes)} stored`],
    ];
    const lines = formatColumns(rows.map(([field, value]) => [`${field}:`, value]));
    for (const { path, text } of header.errors) lines.push(`not read: ${safeName(path)}: ${safeText(text)}`);
    return lines.join('\n');
  },
};
