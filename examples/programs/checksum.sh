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

# What may stand in a JSON text: characters of control other than tabs and newlines, and what is not UTF-8, are left out.
json_text() {
    printf '%s\n' "$1" | tr -d '\001-\010\013-\037' | iconv -c -f UTF-8 -t UTF-8 |
        sed 's/\\/\\\\/g; s/"/\\"/g; s/	/\\t/g' | awk '{ printf "%s%s", separator, $0; separator = "\\n" }'
}

# Calls $2 with every file below the folder $1. Not by a list of lines, as `find` gives: a name may hold newlines.
each_file() {
    for path in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -L "$path" ]; then
            continue
        elif [ -d "$path" ]; then
            each_file "$path" "$2"
        elif [ -f "$path" ]; then
            "$2" "$path"
        fi
    done
}

count() {
    total=$((total + 1))
}

checksum() {
    # A file may have gone meanwhile: that is worth a line, and no reason to end.
    if sum=$(sha256sum <"$1" 2>/dev/null); then
        printf '{"chunk": {"file": "%s", "sha256": "%s"}}\n' "$(json_text "$1")" "${sum%% *}"
    else
        printf '{"log": {"level": "WARN", "message": "cannot read %s"}}\n' "$(json_text "$1")"
    fi
    done=$((done + 1))
    printf '{"progress": {"done": %d, "total": %d}}\n' "$done" "$total"
}

total=0
each_file "$folder" count
echo "$total files in $folder"
done=0
each_file "$folder" checksum
printf '{"result": {"files": %d}}\n' "$total"
