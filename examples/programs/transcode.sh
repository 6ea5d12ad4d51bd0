#!/bin/sh
# Converts a video or sound with ffmpeg: transcode.sh FROM TO
#
# Turns what ffmpeg says about its progress (`-progress`, lines of KEY=VALUE) into messages, and keeps its exit code.
set -u
# Whoever is told to stop is told directly: ffmpeg listens and finishes its file, this script waits for it.
trap '' TERM

from=$1
to=$2
if [ ! -f "$from" ]; then
    echo "there is no file $from" >&2
    exit 64
fi

# In microseconds, as ffmpeg counts; unknown for a stream without an end.
total=$(ffprobe -v error -show_entries format=duration -of default=noprint_wrappers=1:nokey=1 "$from" |
    awk '/^[0-9.]+$/ { printf "%.0f", $1 * 1000000 }')

# A pipe's exit code is that of its last command: ffmpeg's comes through descriptor 3, the messages through 4.
{
    code=$(
        {
            {
                ffmpeg -nostdin -hide_banner -loglevel warning -y -i "$from" -progress pipe:1 "$to" 3>&- 4>&-
                echo $? >&3
            } | awk -F= -v total="$total" '
                $1 == "out_time_us" && $2 ~ /^[0-9]+$/ { at = $2 }
                $1 == "speed" { speed = $2; gsub(/[^0-9.x]/, "", speed) }
                $1 == "progress" {
                    printf "{\"progress\": {\"done\": %.1f", at / 1000000
                    if (total > 0) printf ", \"total\": %.1f", total / 1000000
                    printf ", \"message\": \"%s\"}}\n", speed
                    fflush()
                }' >&4 3>&-
        } 3>&1
    )
} 4>&1
if [ "$code" = 0 ]; then
    printf '{"result": {"bytes": %d}}\n' "$(wc -c <"$to")"
fi
exit "$code"
