// Prints the numbers and layouts of <linux/nbd-netlink.h> and of generic netlink that ffi/nbd/abi.ts and
// ffi/netlink/abi.ts name, one "name number" a line. BACKEND_IDENTIFIER is of Linux 5.14, the rest is older.
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#define SIZE(group, type) printf(group ".sizeBytes %zu\n", sizeof(struct type))
#define FIELD(name, type, field) printf(name " %zu\n", offsetof(struct type, field))
#define VALUE(name, value) printf(name " %llu\n", (unsigned long long)(value))

int main(void) {
  VALUE("NETLINK_FAMILY", AF_NETLINK);
  VALUE("NETLINK_GENERIC", NETLINK_GENERIC);
  SIZE("MESSAGE_HEADER", nlmsghdr);
  FIELD("MESSAGE_HEADER.length", nlmsghdr, nlmsg_len);
  FIELD("MESSAGE_HEADER.type", nlmsghdr, nlmsg_type);
  FIELD("MESSAGE_HEADER.flags", nlmsghdr, nlmsg_flags);
  FIELD("MESSAGE_HEADER.sequence", nlmsghdr, nlmsg_seq);
  FIELD("MESSAGE_HEADER.port", nlmsghdr, nlmsg_pid);
  SIZE("GENERIC_HEADER", genlmsghdr);
  FIELD("GENERIC_HEADER.command", genlmsghdr, cmd);
  FIELD("GENERIC_HEADER.version", genlmsghdr, version);
  SIZE("ATTRIBUTE", nlattr);
  FIELD("ATTRIBUTE.length", nlattr, nla_len);
  FIELD("ATTRIBUTE.type", nlattr, nla_type);
  VALUE("MESSAGE_ERROR", NLMSG_ERROR);
  VALUE("MessageFlag.REQUEST", NLM_F_REQUEST);
  VALUE("MessageFlag.ACKNOWLEDGE", NLM_F_ACK);
  VALUE("NESTED", NLA_F_NESTED);
  VALUE("Controller.FAMILY", GENL_ID_CTRL);
  VALUE("Controller.GET_FAMILY", CTRL_CMD_GETFAMILY);
  VALUE("Controller.FAMILY_ID", CTRL_ATTR_FAMILY_ID);
  VALUE("Controller.FAMILY_NAME", CTRL_ATTR_FAMILY_NAME);
  VALUE("NBD_FAMILY_VERSION", NBD_GENL_VERSION);
  VALUE("NbdCommand.CONNECT", NBD_CMD_CONNECT);
  VALUE("NbdCommand.DISCONNECT", NBD_CMD_DISCONNECT);
  VALUE("NbdCommand.RECONFIGURE", NBD_CMD_RECONFIGURE);
  VALUE("NbdCommand.STATUS", NBD_CMD_STATUS);
  VALUE("NbdAttribute.INDEX", NBD_ATTR_INDEX);
  VALUE("NbdAttribute.SIZE_BYTES", NBD_ATTR_SIZE_BYTES);
  VALUE("NbdAttribute.BLOCK_SIZE_BYTES", NBD_ATTR_BLOCK_SIZE_BYTES);
  VALUE("NbdAttribute.TIMEOUT", NBD_ATTR_TIMEOUT);
  VALUE("NbdAttribute.SERVER_FLAGS", NBD_ATTR_SERVER_FLAGS);
  VALUE("NbdAttribute.CLIENT_FLAGS", NBD_ATTR_CLIENT_FLAGS);
  VALUE("NbdAttribute.SOCKETS", NBD_ATTR_SOCKETS);
  VALUE("NbdAttribute.DEAD_CONN_TIMEOUT", NBD_ATTR_DEAD_CONN_TIMEOUT);
  VALUE("NbdAttribute.DEVICE_LIST", NBD_ATTR_DEVICE_LIST);
  VALUE("NbdAttribute.BACKEND_IDENTIFIER", NBD_ATTR_BACKEND_IDENTIFIER);
  VALUE("SOCKET_ITEM", NBD_SOCK_ITEM);
  VALUE("SOCKET_DESCRIPTOR", NBD_SOCK_FD);
  VALUE("DEVICE_ITEM", NBD_DEVICE_ITEM);
  VALUE("DeviceAttribute.INDEX", NBD_DEVICE_INDEX);
  VALUE("DeviceAttribute.CONNECTED", NBD_DEVICE_CONNECTED);
  return 0;
}
