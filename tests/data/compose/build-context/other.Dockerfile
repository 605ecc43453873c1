FROM immutable-test/idle
COPY content /content
