/* The scripts that connect a shell to `banger internal complete`. */
#include "base/str.h"
#include "cli/cli.h"

#include <stdio.h>

/* COMP_WORDS is cut at COMP_WORDBREAKS ("--format=json" is three words), so the words are put
 * together again, and what stands before the last cut is taken off the candidates. */
static const char bash_script[] =
    "# bash completion for banger: eval \"$(banger completion bash)\"\n"
    "_banger()\n"
    "{\n"
    "    local rest=${COMP_LINE:0:COMP_POINT} program=${1/#\\~/$HOME} words=() before= i\n"
    "    local trimmed piece word files= nospace= mixed\n"
    "    rest=${rest#*\"${COMP_WORDS[0]}\"}\n"
    "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
    "        trimmed=${rest#\"${rest%%[![:space:]]*}\"}\n"
    "        piece=${COMP_WORDS[i]}\n"
    "        ((i < COMP_CWORD)) || piece=$trimmed\n"
    "        if ((i > 1)) && [[ $trimmed == \"$rest\" ]]; then\n"
    "            before=${words[-1]}\n"
    "            words[-1]+=$piece\n"
    "            [[ $piece && $piece != [=:] ]] || before=${words[-1]}\n"
    "        else\n"
    "            before=\n"
    "            words+=(\"$piece\")\n"
    "        fi\n"
    "        rest=${trimmed#\"$piece\"}\n"
    "    done\n"
    "    COMPREPLY=()\n"
    "    while IFS=$'\\t' read -r word _; do\n"
    "        case $word in\n"
    "        :files) files=-f ;;\n"
    "        :dirs) files=-d ;;\n"
    "        :nospace) nospace=1 ;;\n"
    "        *) COMPREPLY+=(\"${word#\"$before\"}\") ;;\n"
    "        esac\n"
    "    done < <(\"$program\" internal complete -- \"${words[@]}\" 2>/dev/null)\n"
    "    mixed=${#COMPREPLY[@]}\n"
    "    [[ ! $nospace || $mixed == 0 ]] || compopt -o nospace\n"
    "    if [[ $files ]]; then\n"
    "        # Readline would also quote the colon of VM:\n"
    "        ((mixed)) || compopt -o filenames\n"
    "        while read -r word; do\n"
    "            [[ $mixed == 0 || ! -d $word ]] || word+=/\n"
    "            ((mixed == 0)) || printf -v word %q \"$word\"\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        done < <(compgen $files -- \"${words[-1]#\"$before\"}\")\n"
    "    fi\n"
    "}\n"
    "complete -F _banger banger\n";

static const char zsh_script[] =
    "#compdef banger\n"
    "# zsh completion for banger: source <(banger completion zsh), behind compinit\n"
    "_banger() {\n"
    "    local -a described space\n"
    "    local line word what kind\n"
    "    while IFS= read -r line; do\n"
    "        word=${line%%$'\\t'*} what=${line#*$'\\t'}\n"
    "        case $word in\n"
    "        (:files|:dirs) kind=$word ;;\n"
    "        (:nospace) space=(-S '') ;;\n"
    "        ($what) described+=(\"${word//:/\\\\:}\") ;;\n"
    "        (*) described+=(\"${word//:/\\\\:}:$what\") ;;\n"
    "        esac\n"
    "    done < <(${(Q)words[1]} internal complete -- \"${(@Q)words[2,CURRENT-1]}\" \\\n"
    "        \"${(Q)PREFIX}\" 2>/dev/null)\n"
    "    (( $#described )) && _describe banger described \"${space[@]}\"\n"
    "    [[ -n $kind ]] || return 0\n"
    "    compset -P '--*='\n"
    "    if [[ $kind == :dirs ]]; then _files -/; else _files; fi\n"
    "}\n"
    "if [[ $funcstack[1] == _banger ]]; then\n"
    "    _banger \"$@\"\n"
    "else\n"
    "    compdef _banger banger\n"
    "fi\n";

static const char fish_script[] =
    "# fish completion for banger: banger completion fish | source\n"
    "function __banger_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l current (commandline -ct)\n"
    "    set -l program $words[1]\n"
    "    set -e words[1]\n"
    "    for line in ($program internal complete -- $words \"$current\" 2>/dev/null)\n"
    "        switch $line\n"
    "            case :nospace # fish adds none behind : and =\n"
    "            case :files :dirs\n"
    "                set -l flag (string match -r -- '^--[^=]*=' $current; or echo)\n"
    "                set -l path (string replace -r -- '^--[^=]*=' '' $current)\n"
    "                set -l paths (__fish_complete_path $path)\n"
    "                test $line = :dirs; and set paths (__fish_complete_directories $path)\n"
    "                printf '%s\\n' $flag$paths\n"
    "            case '*'\n"
    "                echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c banger -e\n"
    "complete -c banger -f -k -a '(__banger_complete)'\n";

int cmd_completion(struct cli *cli, const struct cli_args *args)
{
    const char *shell = args->operands[0];

    (void)cli;
    if (str_eq(shell, "bash")) {
        (void)fputs(bash_script, stdout);
    } else if (str_eq(shell, "zsh")) {
        (void)fputs(zsh_script, stdout);
    } else {
        (void)fputs(fish_script, stdout);
    }
    return 0;
}
