# The link engine and the tools beside it: one static binary under several names.
# `modes-examples/stage-image.sh` fills target/image after `cargo build --release`.
#
# With Open vSwitch, for bridges of mode ovs:
#   modes-examples/stage-image.sh BINARY target/image-ovs && modes-examples/stage-ovs.sh target/image-ovs
#   docker build --build-arg STAGE=target/image-ovs --tag conlink:ovs .
FROM scratch
ARG STAGE=target/image
COPY ${STAGE}/ /
ENV PATH=/bin
# Healthy: every running container's links are up. Gates what has `depends_on: {network: {condition: service_healthy}}`.
HEALTHCHECK --interval=5s --start-period=30s CMD ["/bin/conlink", "healthcheck"]
CMD ["/app/build/conlink.js"]
