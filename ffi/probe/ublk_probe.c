// Prints where <linux/ublk_cmd.h> has the fields that ffi/ublk/abi.ts names, one "name number" a line. Headers of Linux 6.0
// have all of them; what is newer (commands in their ioctl encoding) is proved by the suites that run on such a kernel.
#include <linux/ublk_cmd.h>
#include <stddef.h>
#include <stdio.h>

#define SIZE(group, type) printf(group ".sizeBytes %zu\n", sizeof(struct type))
#define FIELD(name, type, field) printf(name " %zu\n", offsetof(struct type, field))
#define VALUE(name, value) printf(name " %llu\n", (unsigned long long)(value))

int main(void) {
  SIZE("CONTROL_COMMAND", ublksrv_ctrl_cmd);
  FIELD("CONTROL_COMMAND.deviceId", ublksrv_ctrl_cmd, dev_id);
  FIELD("CONTROL_COMMAND.queueId", ublksrv_ctrl_cmd, queue_id);
  FIELD("CONTROL_COMMAND.length", ublksrv_ctrl_cmd, len);
  FIELD("CONTROL_COMMAND.address", ublksrv_ctrl_cmd, addr);
  FIELD("CONTROL_COMMAND.data", ublksrv_ctrl_cmd, data);
  SIZE("DEVICE_INFO", ublksrv_ctrl_dev_info);
  FIELD("DEVICE_INFO.queueCount", ublksrv_ctrl_dev_info, nr_hw_queues);
  FIELD("DEVICE_INFO.queueDepth", ublksrv_ctrl_dev_info, queue_depth);
  FIELD("DEVICE_INFO.state", ublksrv_ctrl_dev_info, state);
  FIELD("DEVICE_INFO.maxIoBytes", ublksrv_ctrl_dev_info, max_io_buf_bytes);
  FIELD("DEVICE_INFO.deviceId", ublksrv_ctrl_dev_info, dev_id);
  FIELD("DEVICE_INFO.serverPid", ublksrv_ctrl_dev_info, ublksrv_pid);
  FIELD("DEVICE_INFO.flags", ublksrv_ctrl_dev_info, flags);
  FIELD("DEVICE_INFO.serverFlags", ublksrv_ctrl_dev_info, ublksrv_flags);
  FIELD("PARAMETERS.length", ublk_params, len);
  FIELD("PARAMETERS.kinds", ublk_params, types);
  FIELD("PARAMETERS.attributes", ublk_params, basic.attrs);
  FIELD("PARAMETERS.logicalShift", ublk_params, basic.logical_bs_shift);
  FIELD("PARAMETERS.physicalShift", ublk_params, basic.physical_bs_shift);
  FIELD("PARAMETERS.optimalShift", ublk_params, basic.io_opt_shift);
  FIELD("PARAMETERS.minimumShift", ublk_params, basic.io_min_shift);
  FIELD("PARAMETERS.maxSectors", ublk_params, basic.max_sectors);
  FIELD("PARAMETERS.deviceSectors", ublk_params, basic.dev_sectors);
  FIELD("PARAMETERS.discardGranularity", ublk_params, discard.discard_granularity);
  FIELD("PARAMETERS.maxDiscardSectors", ublk_params, discard.max_discard_sectors);
  FIELD("PARAMETERS.maxWriteZeroesSectors", ublk_params, discard.max_write_zeroes_sectors);
  FIELD("PARAMETERS.maxDiscardSegments", ublk_params, discard.max_discard_segments);
  VALUE("DESCRIPTOR_WORDS", sizeof(struct ublksrv_io_desc) / 4);
  VALUE("IO_COMMAND.sizeBytes", sizeof(struct ublksrv_io_cmd));
  FIELD("IO_COMMAND.result", ublksrv_io_cmd, result);
  FIELD("IO_COMMAND.address", ublksrv_io_cmd, addr);
  VALUE("DeviceFlag.USER_RECOVERY", UBLK_F_USER_RECOVERY);
  VALUE("DeviceFlag.USER_RECOVERY_REISSUE", UBLK_F_USER_RECOVERY_REISSUE);
  VALUE("DeviceOperation.READ", UBLK_IO_OP_READ);
  VALUE("DeviceOperation.WRITE", UBLK_IO_OP_WRITE);
  VALUE("DeviceOperation.FLUSH", UBLK_IO_OP_FLUSH);
  VALUE("DeviceOperation.DISCARD", UBLK_IO_OP_DISCARD);
  VALUE("DeviceOperation.WRITE_ZEROES", UBLK_IO_OP_WRITE_ZEROES);
  VALUE("DeviceOperationFlag.FUA", UBLK_IO_F_FUA);
  VALUE("DeviceOperationFlag.NO_UNMAP", UBLK_IO_F_NOUNMAP);
  VALUE("ParameterKind.BASIC", UBLK_PARAM_TYPE_BASIC);
  VALUE("ParameterKind.DISCARD", UBLK_PARAM_TYPE_DISCARD);
  VALUE("Attribute.READ_ONLY", UBLK_ATTR_READ_ONLY);
  VALUE("Attribute.VOLATILE_CACHE", UBLK_ATTR_VOLATILE_CACHE);
  VALUE("Attribute.FUA", UBLK_ATTR_FUA);
  VALUE("DeviceState.DEAD", UBLK_S_DEV_DEAD);
  VALUE("DeviceState.LIVE", UBLK_S_DEV_LIVE);
  VALUE("DeviceState.QUIESCED", UBLK_S_DEV_QUIESCED);
  return 0;
}
