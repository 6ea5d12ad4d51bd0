#!/bin/sh
# SHA-256 of every file in a folder: checksum.sh FOLDER
#
# What a shell script has to know of Meanwhile: a line of JSON on stdout is a message, any other line is a log line,
# the exit code says how it ended.
set -eu

folder=$1
if [ ! -d "$folder" ]; then
    echo "there is no folder $folder" >&2
    exit 64
fi

# What may stand in a JSON text.
json_text() {
    printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g; s/	/\\t/g' | tr -d '\000-\037'
}

total=$(find "$folder" -type f | wc -l)
echo "$total files in $folder"
done=0
find "$folder" -type f | sort | while IFS= read -r file; do
    # A file may have gone meanwhile: that is worth a line, and no reason to end.
    if sum=$(sha256sum <"$file" 2>/dev/null); then
        printf '{"chunk": {"file": "%s", "sha256": "%s"}}\n' "$(json_text "$file")" "${sum%% *}"
    else
        printf '{"log": {"level": "WARN", "message": "cannot read %s"}}\n' "$(json_text "$file")"
    fi
    done=$((done + 1))
    printf '{"progress": {"done": %d, "total": %d}}\n' "$done" "$total"
done
printf '{"result": {"files": %d}}\n' "$total"
