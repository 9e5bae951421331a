/** Generic netlink of the running kernel, which always has the family that tells of families. */

import "./libc_opened.ts";
import assert from "node:assert/strict";
import { Errno } from "../../ffi/libc/errno.ts";
import { Controller } from "../../ffi/netlink/abi.ts";
import { decodeAttributes, encodeAttributes, nested, numberOf, text, u32, u64 } from "../../ffi/netlink/attributes.ts";
import { GenericNetlink, openNetlinkPort } from "../../ffi/netlink/generic_netlink.ts";

Deno.test("a family is found by its name and answers; one that is not there is not", () => {
  const port = openNetlinkPort();
  assert.ok(typeof port !== "number");
  const family = GenericNetlink.open("nlctrl", 1, port);
  assert.ok(typeof family !== "number", `${family}`);
  const answer = family.request(Controller.GET_FAMILY, [text(Controller.FAMILY_NAME, "nlctrl")]);
  assert.ok(typeof answer !== "number");
  assert.equal(numberOf(answer, Controller.FAMILY_ID), Controller.FAMILY);
  assert.equal(family.request(Controller.GET_FAMILY, [text(Controller.FAMILY_NAME, "brmr-nobody")]), -Errno.ENOENT);
  family.close();
});

Deno.test("attributes survive the way, and what is cut short is left out", () => {
  const bytes = encodeAttributes([u32(1, 0xfffffffe), u64(2, 2 ** 40 + 5), text(3, "abc"), nested(4, [u32(1, 7)])]);
  assert.equal(bytes.length, 8 + 12 + 8 + 12);
  const [small, large, name, group] = decodeAttributes(bytes);
  assert.deepEqual(small, { type: 1, value: new Uint8Array([254, 255, 255, 255]) });
  assert.deepEqual([...large.value], [5, 0, 0, 0, 0, 1, 0, 0]);
  assert.deepEqual([...name.value], [97, 98, 99, 0]);
  assert.equal(numberOf(decodeAttributes(group.value), 1), 7);
  assert.equal(decodeAttributes(bytes.subarray(0, 15)).length, 1);
  assert.equal(numberOf([small], 9), -1);
});
