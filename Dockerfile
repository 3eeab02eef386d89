# The link engine and its tools. `modes-examples/image.sh` fills target/image and target/image-slim and builds both images;
# once it has run, `build:` in a compose file works too.
FROM scratch
ARG STAGE=target/image
COPY ${STAGE}/ /
ENV PATH=/bin
# Healthy when the links of all running containers are up. A service with
# `depends_on: {network: {condition: service_healthy}}` starts only then.
HEALTHCHECK --interval=5s --start-period=30s CMD ["/bin/conlink", "healthcheck"]
CMD ["/app/build/conlink.js"]
