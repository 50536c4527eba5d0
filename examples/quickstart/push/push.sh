#!/bin/sh
# Tells everybody in the room `deploys` of a new version: ./push.sh VERSION
set -eu

# With a key of its own a message is published once, however often the request is repeated.
curl --silent --show-error --fail-with-body --retry 3 "${HUB:-http://localhost:8080}/api/v1/publish" \
  -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
  -d "{\"room\":\"deploys\",\"type\":\"deploy\",\"data\":{\"version\":\"$1\"},\"idempotencyKey\":\"deploy-$1\"}"
echo
