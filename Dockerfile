# The link engine and the tools beside it: one static binary under several names.
# `modes-examples/stage-image.sh` fills target/image after `cargo build --release`.
FROM scratch
COPY target/image/ /
ENV PATH=/bin
CMD ["/app/build/conlink.js"]
