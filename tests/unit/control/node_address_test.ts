import assert from "node:assert/strict";
import {
  canonicalNodeAddress,
  isLoopbackHost,
  parseLegPlace,
  parseNodeAddress,
} from "../../../lib/control/node_address.ts";
import { ControlError } from "../../../lib/control/control_api.ts";

const NOTHING = { permissions: "none" } as const;

Deno.test("parseNodeAddress() reads names, IPv4 and IPv6, with or without tcp://", NOTHING, () => {
  assert.deepEqual(parseNodeAddress("127.0.0.1:7701"), { host: "127.0.0.1", port: 7701 });
  assert.deepEqual(parseNodeAddress("tcp://[::1]:7702/"), { host: "::1", port: 7702 });
  assert.deepEqual(parseNodeAddress("Node-A.example:1"), { host: "node-a.example", port: 1 });
  assert.equal(canonicalNodeAddress("tcp://[FE80::1%eth0]:7701"), "[fe80::1%eth0]:7701");
});

Deno.test("parseNodeAddress() refuses what is no address, and says what would be one", NOTHING, () => {
  for (const text of ["", "127.0.0.1", ":7701", "a:0", "a:65536", "::1:7701", "[::1]", "a b:1", "-a:1", "http://a:1"]) {
    assert.throws(
      () => parseNodeAddress(text),
      (error) => error instanceof ControlError && error.code === "bad-request" && /HOST:PORT/.test(error.message),
      text,
    );
  }
});

Deno.test("parseLegPlace() splits address and path, also for IPv6 and paths with colons", NOTHING, () => {
  assert.deepEqual(parseLegPlace("127.0.0.1:7701:/data/a.img"), { address: "127.0.0.1:7701", path: "/data/a.img" });
  assert.deepEqual(parseLegPlace("[::1]:7701:/data/a:1"), { address: "[::1]:7701", path: "/data/a:1" });
  assert.equal(parseLegPlace("localhost:7701:/a").address, "127.0.0.1:7701");
  const notNumeric = [
    "node-a:7701:/a",
    "1.2.3:7701:/a",
    "1.2.3.256:7701:/a",
    "01.2.3.4:7701:/a",
    "[fe80::1%eth0]:7701:/a",
  ];
  for (const text of notNumeric) assert.throws(() => parseLegPlace(text), /IP address/, text);
  for (const text of ["0.0.0.0:7701:/a", "[::]:7701:/a"]) assert.throws(() => parseLegPlace(text), /any address/, text);
  for (const text of ["127.0.0.1:/data/a", "127.0.0.1:7701:data", "127.0.0.1:7701", "/data/a"]) {
    assert.throws(() => parseLegPlace(text), ControlError, text);
  }
});

Deno.test("isLoopbackHost() knows what only this machine reaches", NOTHING, () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "localhost"]) assert.equal(isLoopbackHost(host), true, host);
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org"]) {
    assert.equal(isLoopbackHost(host), false, host);
  }
});
