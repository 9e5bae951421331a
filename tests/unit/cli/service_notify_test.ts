import assert from "node:assert/strict";
import { notifyService } from "../../../cli/service_notify.ts";
import { libc } from "../../../ffi/libc/library.ts";

// Opened for the whole process, by design: outside of the tests, so that it is not taken for a leak of one.
libc();

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

/** A datagram socket bound to `name` ("@..." for an abstract one), as a supervisor has it. */
function supervisor(name: string): number {
  const path = new TextEncoder().encode(name);
  const address = new Uint8Array(2 + path.length);
  address[0] = AF_UNIX;
  address.set(path, 2);
  if (name.startsWith("@")) address[2] = 0;
  const socket = libc().socket(AF_UNIX, SOCK_DGRAM, 0);
  assert(socket >= 0);
  assert.equal(libc().bind(socket, address, address.length), 0);
  return socket;
}

function receive(socket: number): string {
  const bytes = new Uint8Array(1024);
  const count = Number(libc().read(socket, Deno.UnsafePointer.of(bytes), BigInt(bytes.length)));
  assert(count >= 0);
  return new TextDecoder().decode(bytes.subarray(0, count));
}

Deno.test("notifyService() sends one datagram, to a path and to an abstract name", async () => {
  const dir = await Deno.makeTempDir({ prefix: "brmr-test-" });
  try {
    for (const name of [`${dir}/notify`, `@brmr-test-${Deno.pid}`]) {
      const socket = supervisor(name);
      assert.equal(notifyService("READY=1\nSTATUS=Serving", name), true);
      assert.equal(receive(socket), "READY=1\nSTATUS=Serving");
      libc().close(socket);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("notifyService() does nothing without a supervisor, and no harm when it is gone", () => {
  assert.equal(notifyService("READY=1", ""), false);
  assert.equal(notifyService("READY=1", "/nonexistent/notify"), false);
  assert.equal(notifyService("READY=1", "/" + "x".repeat(200)), false);
});
