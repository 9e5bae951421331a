/** What is missing for RDMA is said in full, with what to do about it. The machine that runs this has the libraries, and no device. */

import "./libc_opened.ts";
import assert from "node:assert/strict";
import { CmEventChannel } from "../../ffi/rdmacm/event_channel.ts";
import { rdmaCm } from "../../ffi/rdmacm/library.ts";
import { rdmaDeviceNames, requireRdmaDevice } from "../../ffi/verbs/device.ts";
import { openRdmaLibrary, RdmaUnavailable } from "../../ffi/verbs/library.ts";

// Libraries are opened when first needed and stay open; here, so that no test is blamed for it.
rdmaDeviceNames();
rdmaCm();

/** What `call` says to be missing. */
function lackOf(call: () => unknown): { lack: string; message: string } {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof RdmaUnavailable, String(error));
    return { lack: error.lack, message: error.message };
  }
  return { lack: "nothing", message: "" };
}

Deno.test("a library that is not there is named, once, with the package that has it", () => {
  const open = () => openRdmaLibrary("libnothere.so.7", "libnothere7", {});
  assert.deepEqual(lackOf(open), {
    lack: "library",
    message:
      "There is no RDMA here: libnothere.so.7 cannot be opened (libnothere.so.7: cannot open shared object file: " +
      "No such file or directory). Install rdma-core (Debian: libnothere7 ibverbs-providers)",
  });
});

Deno.test("a library that lacks a function is one that cannot be opened, too", () => {
  const { lack, message } = lackOf(() =>
    openRdmaLibrary("libc.so.6", "libc6", { rdma_reverse_time: { parameters: [], result: "void" } })
  );
  assert.equal(lack, "library");
  assert.match(
    message,
    /^There is no RDMA here: libc\.so\.6 cannot be opened \(.*rdma_reverse_time.*\)\. Install rdma-core/,
  );
});

Deno.test("a machine without a device is told how to come by one", () => {
  if (rdmaDeviceNames().length > 0) {
    return assert.deepEqual(lackOf(requireRdmaDevice), { lack: "nothing", message: "" });
  }
  assert.deepEqual(lackOf(requireRdmaDevice), {
    lack: "device",
    message:
      "There is no RDMA device here (ibv_devices lists none). Load its driver; without such hardware, soft-RoCE " +
      "needs the module rdma_rxe: modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0",
  });
});

Deno.test("a kernel without a connection manager for processes is told which module that is", async () => {
  const isLoaded = await Deno.stat("/dev/infiniband/rdma_cm").then(() => true, () => false);
  const { lack, message } = lackOf(() => new CmEventChannel().close());
  assert.equal(lack, isLoaded ? "nothing" : "module");
  if (isLoaded) return;
  assert.match(
    message,
    /^RDMA connections cannot be made here: E[A-Z]+ \(.*\)\. Load the module rdma_ucm \(modprobe rdma_ucm\)$/,
  );
});
