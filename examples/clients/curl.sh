#!/usr/bin/env bash
# curl: server-sent events. Shows each event of a task once, until it has ended: curl.sh URL TASK_ID
#
# When the connection is lost, a new request names the id of the last event that was whole (Last-Event-ID).
set -euo pipefail

query='subscription WatchTask($id: ID!) { taskEvents(id: $id) {
  __typename seq attempt cursor
  ... on TaskStatusChanged { status result error { code message } }
  ... on TaskProgressed { percent } } }'
operation="{\"query\": \"${query//$'\n'/ }\", \"variables\": {\"id\": \"$2\"}}"

last=
while :; do
  event='' id='' data=''
  while IFS= read -r line; do
    case $line in
      'event: '*) event=${line#event: } ;;
      'id: '*) id=${line#id: } ;;
      'data: '*) data=${line#data: } ;;
      '')
        # Only now is the event whole.
        [ "$event" != complete ] || exit 0
        [ -z "$data" ] || printf '%s\n' "$data"
        last=${id:-$last} event='' id='' data=''
        ;;
      # The status, when the response has ended: 204 says that there is nothing after the last event.
      :204) exit 0 ;;
      :4*) exit 1 ;;
      '{'*) printf '%s\n' "$line" >&2 ;;
    esac
  done < <(curl "$1" --silent --show-error --no-buffer --write-out '\n:%{http_code}\n' --data "$operation" \
    --header 'content-type: application/json' --header 'accept: text/event-stream' --header "last-event-id: $last")
  sleep "${RETRY_SECONDS:-1}"
done
