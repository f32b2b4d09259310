#!/bin/sh
# An MCP server of the 2025 revisions as people write them in an evening: it prints
# banners where messages belong, and its writes end in the middle of characters.
echo 'Note server 0.1 starting up ...'
echo '{"level":"info","msg":"not a message either"}'
printf '===========================\n\n'

# answer ID RESULT writes a result in three writes, the first of which ends inside
# the two bytes of an "é" and the second inside the four of a "😀".
answer() {
	printf '{"jsonrpc":"2.0","id":%s,"result":{"_meta":{"note":"caf\303' "$1"
	printf '\251 \360\237'
	printf '\230\200"},%s}}\r\n' "$2"
}

while read -r line; do
	id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
	case $line in
	*'"initialize"'*)
		version=$(printf '%s' "$line" | sed 's/.*"protocolVersion":"\([^"]*\)".*/\1/')
		answer "$id" '"protocolVersion":"'"$version"'","capabilities":{"tools":{},"resources":{},"prompts":{}},"serverInfo":{"name":"server.sh","version":"0.1"}' ;;
	*'"tools/list"'*) answer "$id" '"tools":[{"name":"greet","inputSchema":{"type":"object"}}]' ;;
	*'"resources/list"'*) answer "$id" '"resources":[{"uri":"demo://note","name":"note"}]' ;;
	*'"prompts/list"'*) answer "$id" '"prompts":[{"name":"greeting"}]' ;;
	*'"tools/call"'*)
		echo 'DEBUG: greet called'
		answer "$id" '"content":[{"type":"text","text":"h\u00e9llo"}]' ;;
	*'"resources/read"'*) answer "$id" '"contents":[{"uri":"demo://note","text":"a note"}]' ;;
	*'"prompts/get"'*) answer "$id" '"messages":[{"role":"user","content":{"type":"text","text":"greet"}}]' ;;
	*'"id"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id" ;;
	esac
done
