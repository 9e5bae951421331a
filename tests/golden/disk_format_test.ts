/**
 * Images of every metadata block as format version 1 writes it. If one of these fails, disks in use can no longer be
 * read or older versions no longer read new ones: give the format a new version instead.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { OWNER, sampleRecords } from "../unit/disk_format/sample_records.ts";

const SEQUENCE = 2 ** 32 + 5;

for (const sample of sampleRecords()) {
  const file = new URL(`disk_format_v1_${sample.name.replaceAll(" ", "_")}.bin`, import.meta.url);

  Deno.test(`${sample.name}: the image of version 1 is read, and written again to the byte`, () => {
    const image = Deno.readFileSync(file);
    const decoded = sample.decode(image, OWNER);
    assert.ok(decoded.ok, decoded.ok ? "" : decoded.message);
    assert.equal(decoded.sequence, SEQUENCE);
    assert.equal(Buffer.compare(sample.encodeValue(decoded.value, OWNER, decoded.sequence), image), 0);
    assert.equal(Buffer.compare(sample.encode(SEQUENCE), image), 0);
  });
}
