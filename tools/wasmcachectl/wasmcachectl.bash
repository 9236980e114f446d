# bash completion of wasmcachectl: the program knows its commands, options and values; the modules that are here are asked of the daemon.
_wasmcachectl()
{
        local word=${COMP_WORDS[COMP_CWORD]#=} previous command= each words=()
        local IFS=$'\n'
        for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do [ "$each" = = ] || { words+=("$each"); previous=$each; }; done          # --option=VALUE comes as three words
        mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" --complete "${words[@]}" "$word" 2>/dev/null)
        [ ${#COMPREPLY[@]} -gt 0 ] && return
        case $previous in
        --key|--pull-secret-file|--socket|-s) mapfile -t COMPREPLY < <(compgen -f -- "$word"); compopt -o filenames; return ;;
        -*) return ;;
        esac
        for command in "${words[@]}" "$word"; do [[ $command == -* ]] || break; done
        case $command in
        inspect|rm|pin|unpin|verify|export)
                mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" ls -o json 2>/dev/null | grep -o '"sha256":"[0-9a-f]*"' | cut -d'"' -f4 | grep -- "^$word") ;;
        esac
        case $command in
        import|export|verify-signature) [ ${#COMPREPLY[@]} -gt 0 ] || { mapfile -t COMPREPLY < <(compgen -f -- "$word"); compopt -o filenames; } ;;
        esac
}
complete -F _wasmcachectl wasmcachectl
