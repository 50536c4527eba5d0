#!/bin/sh
# Says something in the lobby, and reads what was said there.
set -eu

api() {
  path=$1
  shift
  curl --silent --show-error --fail-with-body -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    "${HUB:-http://localhost:8080}/api/v1/$path" "$@"
  echo
}

api publish -d '{"room":"lobby","type":"chat","content":"Hello from curl","user":{"id":"curl","name":"Curl"}}'
api 'rooms/lobby/history?limit=1'
