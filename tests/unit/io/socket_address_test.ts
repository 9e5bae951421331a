import assert from "node:assert/strict";
import fc from "fast-check";
import { AddressError, formatSocketAddress, parseSocketAddress } from "../../../lib/io/socket_address.ts";

Deno.test("addresses are read, made canonical and told local or not", () => {
  const cases: [string, string, boolean][] = [
    ["127.0.0.1:7701", "127.0.0.1:7701", true],
    ["tcp://127.0.0.1:7701", "127.0.0.1:7701", true],
    ["localhost:1", "127.0.0.1:1", true],
    ["127.9.9.9:0", "127.9.9.9:0", true],
    ["0.0.0.0:65535", "0.0.0.0:65535", false],
    ["192.168.0.1:80", "192.168.0.1:80", false],
    ["[::1]:7701", "[::1]:7701", true],
    ["tcp://[0:0:0:0:0:0:0:1]:7701", "[::1]:7701", true],
    ["[::]:7701", "[::]:7701", false],
    ["[2001:DB8:0:0:1:0:0:1]:5", "[2001:db8::1:0:0:1]:5", false],
    ["[1:0:3:4:5:6:7:8]:5", "[1:0:3:4:5:6:7:8]:5", false],
    ["[::ffff:127.0.0.1]:5", "[::ffff:7f00:1]:5", true],
    ["[1::]:5", "[1::]:5", false],
    ["/run/brmr/vol1.sock", "/run/brmr/vol1.sock", true],
    ["unix:/run/a", "/run/a", true],
    ["unix:///run/a", "/run/a", true],
    ["unix:a.sock", "unix:a.sock", true],
    ["./a.sock", "unix:./a.sock", true],
  ];
  for (const [text, canonical, isLocal] of cases) {
    const address = parseSocketAddress(text);
    assert.equal(address.text, canonical, text);
    assert.equal(address.isLocal, isLocal, text);
    assert.equal(formatSocketAddress(address.bytes), canonical, text);
    assert.equal(parseSocketAddress(canonical).text, canonical);
  }
});

Deno.test("the bytes are those of the kernel's structs", () => {
  assert.deepEqual(
    [...parseSocketAddress("1.2.3.4:258").bytes],
    [2, 0, 1, 2, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0],
  );
  const v6 = parseSocketAddress("[102:304::f]:258").bytes;
  assert.equal(v6.length, 28);
  assert.deepEqual([...v6.subarray(0, 12)], [10, 0, 1, 2, 0, 0, 0, 0, 1, 2, 3, 4]);
  assert.equal(v6[23], 15);
  assert.deepEqual([...parseSocketAddress("/a").bytes], [1, 0, 47, 97, 0]);
});

Deno.test("what is no address is refused with a reason", () => {
  const cases: [string, RegExp][] = [
    ["", /write HOST:PORT/],
    ["7701", /write HOST:PORT/],
    ["127.0.0.1", /write HOST:PORT/],
    ["127.0.0.1:", /write HOST:PORT/],
    ["127.0.0.1:x", /write HOST:PORT/],
    ["127.0.0.1:70000", /ports go up to 65535/],
    ["storage1:7701", /Host names are not looked up/],
    ["1.2.3:1", /not an IPv4 address/],
    ["1.2.3.256:1", /not an IPv4 address/],
    ["::1:7701", /write HOST:PORT/],
    ["[::1::]:7", /not an IPv6 address/],
    ["[1:2:3:4:5:6:7:8:9]:7", /not an IPv6 address/],
    ["[1:2:3:4:5:6:7]:7", /not an IPv6 address/],
    ["[12345::]:7", /not an IPv6 address/],
    ["[]:7", /not an IPv6 address/],
    ["unix:", /needs a path/],
    ["/" + "x".repeat(107), /at most 107/],
    ["/a\0b", /NUL/],
  ];
  for (const [text, pattern] of cases) {
    assert.throws(() => parseSocketAddress(text), (error) => {
      assert.ok(error instanceof AddressError, text);
      assert.match(error.message, pattern, text);
      return true;
    });
  }
  assert.equal(parseSocketAddress("/" + "x".repeat(106)).bytes.length, 110);
});

Deno.test("any IPv6 address survives writing and reading", () => {
  const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), fc.integer({ min: 0, max: 65535 }), (groups, port) => {
      const long = `[${groups.map((one) => one.toString(16)).join(":")}]:${port}`;
      const address = parseSocketAddress(long);
      assert.deepEqual(parseSocketAddress(address.text).bytes, address.bytes);
    }),
  );
});

Deno.test("any text is either an address or an AddressError", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."[]:./0129afx-utcpni\0 ") }), (text) => {
      try {
        parseSocketAddress(text);
      } catch (error) {
        assert.ok(error instanceof AddressError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("formatSocketAddress() takes what getpeername gives for unnamed sockets and short answers", () => {
  assert.equal(formatSocketAddress(new Uint8Array([1, 0])), "unix:");
  assert.equal(formatSocketAddress(new Uint8Array([])), "unknown address family 0");
  assert.equal(formatSocketAddress(new Uint8Array([2, 0])), "unknown address family 2");
});
